"""Weights on their way to a device, on the fake of CUDA: what arrives, and what that takes."""

import numpy as np
import pytest

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.staging import PinnedPool
from runtime.backends.device.stream import Stream
from runtime.backends.device.weights import DeviceWeights, offsets
from runtime.backends.low_rank import LowRankUpdate, Weight, base_of, merged
from runtime.errors import BackendError, DeviceError
from runtime.package.tensors import Tensor, stored
from tests.fakes.cuda import FakeCuda, FakeProperties, FakeResult


def update(dtype: str, outputs: int, inputs: int, rank: int) -> LowRankUpdate:
    draw = np.random.default_rng(rank)
    base = stored(draw.standard_normal((outputs, inputs)).astype(np.float32), dtype)
    up, down = (
        draw.standard_normal(shape).astype(np.float32)
        for shape in ((outputs, rank), (rank, inputs))
    )
    return LowRankUpdate(Tensor(dtype, base), up, down)


WEIGHTS: dict[str, Weight] = {
    "small": update("F16", 3, 5, 2),
    "finished": Tensor("F32", np.arange(7, dtype=np.float32)),
    "bf16": update("BF16", 40, 33, 4),
    "fp32": update("F32", 16, 300, 9),
    # Goes up in more than one piece.
    "large": update("F16", 3000, 3100, 1),
}


def machine(memory: int = 2**30) -> tuple[FakeCuda, Cuda, DeviceWeights]:
    fake = FakeCuda((FakeProperties(totalGlobalMem=memory),))
    cuda = Cuda(fake, fake)
    return fake, cuda, DeviceWeights(cuda, Stream(cuda, urgent=True), PinnedPool(cuda))


def test_each_weight_is_at_its_address_when_writing_returns() -> None:
    fake, cuda, weights = machine()
    places, size = offsets(WEIGHTS)
    begin = cuda.allocate(size, "weights").address
    for _ in range(2):
        weights.write((weight, begin + places[name]) for name, weight in WEIGHTS.items())
        for name, weight in WEIGHTS.items():
            expected = merged(weight).values
            found = fake.view(begin + places[name], expected.nbytes).view(expected.dtype)
            np.testing.assert_array_equal(found.reshape(expected.shape), expected, err_msg=name)


def test_factors_lie_on_the_device_only_meanwhile() -> None:
    fake, cuda, weights = machine()
    address = cuda.allocate(base_of(WEIGHTS["large"]).size_bytes, "weights").address
    before = fake.allocated_bytes
    weights.write([(WEIGHTS["large"], address)])
    assert fake.allocated_bytes == before
    assert "LoRA factors" not in cuda.used


def test_places_do_not_overlap_and_are_aligned() -> None:
    places, size = offsets(WEIGHTS)
    ends = [places[name] + merged(weight).size_bytes for name, weight in WEIGHTS.items()]
    begins = [*list(places.values())[1:], size]
    assert all(end <= begin for end, begin in zip(ends, begins, strict=True))
    assert all(place % 256 == 0 for place in places.values())


def test_no_room_for_the_factors_is_one_clear_error_and_no_lost_device() -> None:
    _, cuda, weights = machine(memory=1200)
    address = cuda.allocate(1000, "weights").address
    with pytest.raises(BackendError, match="does not hold LoRA factors") as refusal:
        weights.write([(WEIGHTS["fp32"], address)])
    assert not isinstance(refusal.value, DeviceError)


def test_a_kernel_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, cuda, weights = machine()
    monkeypatch.setattr(
        fake, "cuModuleGetFunction", lambda *_: (FakeResult.CUDA_ERROR_NOT_FOUND, 0)
    )
    address = cuda.allocate(1000, "weights").address
    with pytest.raises(DeviceError, match="low_rank_f16: CUDA_ERROR_NOT_FOUND: the words for 500"):
        weights.write([(WEIGHTS["small"], address)])
