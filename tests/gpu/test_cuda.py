"""The seam to CUDA, on a device: copies, order, graphs, memory."""

import numpy as np
import pytest

from runtime.backends.cuda import Cuda
from runtime.backends.staging import Buffer, PinnedPool, Uploads, reading
from runtime.devices import Gpu
from runtime.errors import BackendError


@pytest.fixture
def cuda(gpu: Gpu) -> Cuda:
    return Cuda()


def test_what_is_uploaded_is_read_back(cuda: Cuda) -> None:
    stream, pool = cuda.stream(urgent=True), PinnedPool(cuda)
    uploads = Uploads(pool, stream)
    array = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    buffer = Buffer(cuda.allocate(array.nbytes, "buffers"), array.shape, array.dtype)
    for factor in range(8):
        uploads.put(array * factor, buffer.memory.address)
        uploads.end_round()
        np.testing.assert_array_equal(reading(pool, stream, buffer)(), array * factor)


def test_a_graph_copies_what_lies_at_its_addresses_when_it_is_launched(cuda: Cuda) -> None:
    stream, pool = cuda.stream(urgent=True), PinnedPool(cuda)
    uploads = Uploads(pool, stream)
    first, second = (
        Buffer(cuda.allocate(16, "buffers"), (4,), np.dtype(np.float32)) for _ in range(2)
    )
    graph = stream.capture(
        lambda: stream.copy(second.memory.address, first.memory.address, first.row_bytes * 4)
    )
    for value in (1.0, 2.0):
        uploads.put(np.full(4, value, np.float32), first.memory.address)
        uploads.end_round()
        graph.launch(stream)
        np.testing.assert_array_equal(reading(pool, stream, second)(), np.full(4, value))
    graph.destroy()


def test_memory_is_what_was_allocated_and_comes_back(cuda: Cuda) -> None:
    size = 256 * 2**20
    free, _ = cuda.memory()
    memory = cuda.allocate(size, "buffers")
    assert free - cuda.memory()[0] >= size
    assert cuda.used["buffers"] == size
    cuda.free(memory)
    assert cuda.memory()[0] >= free - 2**20


def test_what_does_not_fit_is_one_clear_error(cuda: Cuda) -> None:
    _, total = cuda.memory()
    with pytest.raises(BackendError, match="does not hold buffers"):
        cuda.allocate(2 * total, "buffers")
    cuda.free(cuda.allocate(1024, "buffers"))
