"""Streams and graphs on a fake of CUDA: what is left behind when something fails."""

import numpy as np
import pytest

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.graph import CaptureError, capture
from runtime.backends.device.staging import Buffer, PinnedPool, Uploads, reading
from runtime.backends.device.stream import Stream
from runtime.errors import DeviceError, lacks_memory
from tests.fakes.cuda import FakeCuda


def test_a_capture_that_fails_halfway_leaves_no_graph_and_its_stream_goes_on() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake, fake)
    stream, pool = Stream(cuda, urgent=True), PinnedPool(cuda)
    first, second = (
        Buffer(cuda.allocate(16, "buffers"), (4,), np.dtype(np.float32)) for _ in range(2)
    )

    def fail() -> None:
        stream.copy(second.memory.address, first.memory.address, 16)
        raise DeviceError("denoiser: it cannot run")

    with pytest.raises(CaptureError, match="denoiser: it cannot run"):
        capture(stream, fail)
    assert fake.graphs == 0
    uploads = Uploads(pool, stream)
    uploads.put(np.arange(4, dtype=np.float32), first.memory.address)
    uploads.end_round()
    stream.copy(second.memory.address, first.memory.address, 16)
    np.testing.assert_array_equal(reading(pool, stream, second)(), np.arange(4))


def test_a_graph_that_is_destroyed_is_gone() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake, fake)
    stream = Stream(cuda, urgent=True)
    graph = capture(stream, lambda: None)
    assert fake.graphs == 1
    graph.destroy()
    assert fake.graphs == 0


@pytest.mark.parametrize(
    ("words", "lacking"),
    [
        ("Failed to allocate memory for requested buffer of size 13111296", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&handle)", True),
        ("CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0", True),
        ("cudaGraphInstantiate: cudaErrorMemoryAllocation: out of memory", True),
        ("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0", False),
    ],
)
def test_a_lack_of_memory_is_known_by_the_words_of_any_library(
    words: str, *, lacking: bool
) -> None:
    """The words are those of reports about ONNX Runtime, and of CUDA."""
    assert lacks_memory(words) is lacking
