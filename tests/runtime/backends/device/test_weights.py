"""Weights on their way to a device, on the fake of CUDA: what arrives, and what that takes."""

from collections.abc import Mapping

import numpy as np
import pytest

from runtime.backends.device.bases import KeptBases
from runtime.backends.device.cuda import Cuda
from runtime.backends.device.device import Device
from runtime.backends.device.places import offsets
from runtime.backends.device.stream import Stream
from runtime.backends.device.weights import DeviceWeights
from runtime.backends.low_rank import LowRankUpdate, Weight, Weights, base_of, merged
from runtime.backends.protocol import SPARE
from runtime.errors import BackendError, DeviceError
from runtime.package.tensors import Tensor
from tests.fakes.cuda import FakeCuda, FakeMemcpyKind, FakeProperties, FakeResult
from tests.runtime.backends.device.updates import update

WEIGHTS: dict[str, Weight] = {
    "small": update("F16", 3, 5, {2: "F16"}),
    "finished": Tensor("F32", np.arange(7, dtype=np.float32)),
    "bf16": update("BF16", 40, 33, {4: "F32", 3: "F16"}),
    "fp32": update("F32", 16, 300, {9: "F16"}),
    # Goes up in more than one piece.
    "large": update("F16", 3000, 3100, {1: "F32"}),
    # So do its factors.
    "broad": update("F16", 300, 300, {7100: "F32"}),
    "own": LowRankUpdate(update("F16", 3, 5, {}).base, ()),
}


class Machine:
    """Weights of an engine on a device, and what crossed the bus."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, memory: int = 2**30) -> None:
        self.fake = FakeCuda((FakeProperties(totalGlobalMem=memory),))
        self.cuda = Cuda(self.fake, self.fake)
        self.device = Device(self.cuda)
        self.bases = KeptBases(self.device, "denoiser")
        stream = Stream(self.cuda, urgent=True)
        self.writer = DeviceWeights(self.device, stream, self.bases)
        self.uploads: list[int] = []
        self.copies = self.launches = 0
        self._count(monkeypatch)

    def placed(self, weights: Weights) -> Mapping[str, int]:
        places, size = offsets(weights)
        begin = self.cuda.allocate(size, "weights").address
        return {name: begin + place for name, place in places.items()}

    def write(self, weights: Weights, places: Mapping[str, int]) -> None:
        self.uploads, self.copies, self.launches = [], 0, 0
        self.writer.write(weights, places)

    def holds(self, weights: Weights, places: Mapping[str, int]) -> None:
        for name, weight in weights.items():
            expected = merged(weight).values
            found = self.fake.view(places[name], expected.nbytes).view(expected.dtype)
            np.testing.assert_array_equal(found.reshape(expected.shape), expected, err_msg=name)

    def _count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        copy, launch = self.fake.cudaMemcpyAsync, self.fake.cuLaunchKernel

        def copied(dst: int, src: int, count: int, kind: FakeMemcpyKind, stream: int) -> object:
            if kind is FakeMemcpyKind.cudaMemcpyHostToDevice:
                self.uploads.append(count)
            else:
                self.copies += 1
            return copy(dst, src, count, kind, stream)

        def launched(*arguments: object) -> object:
            self.launches += 1
            return launch(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(self.fake, "cudaMemcpyAsync", copied)
        monkeypatch.setattr(self.fake, "cuLaunchKernel", launched)


def updates_of(weights: Weights) -> dict[str, LowRankUpdate]:
    return {name: each for name, each in weights.items() if isinstance(each, LowRankUpdate)}


@pytest.mark.parametrize("room", [0, 2**22, 2**30], ids=["no room", "some", "room"])
def test_each_weight_is_at_its_address_when_writing_returns(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    machine = Machine(monkeypatch)
    places = machine.placed(WEIGHTS)
    machine.device.left_free = machine.cuda.memory()[0] - room
    own: Weights = {
        name: LowRankUpdate(each.base, ()) for name, each in updates_of(WEIGHTS).items()
    }
    for weights in (WEIGHTS, WEIGHTS, own, WEIGHTS):
        machine.write(weights, places)
        machine.holds(weights, places)
    assert machine.cuda.used.get(SPARE, 0) <= room


def test_a_later_change_uploads_no_byte_of_a_base_and_few_copies_carry_the_factors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    first, second = (
        {f"w{i}": update("F16", 640, 640, {rank: "F16"}) for i in range(50)} for rank in (8, 16)
    )
    places = machine.placed(first)
    machine.write(first, places)
    bases = sum(base_of(each).size_bytes for each in first.values())
    factors = sum(each.size_bytes for each in first.values())
    assert bases + factors <= sum(machine.uploads) <= bases + factors + 50 * 64
    same = {name: LowRankUpdate(first[name].base, each.products) for name, each in second.items()}
    for weights in (same, first):
        machine.write(weights, places)
        machine.holds(weights, places)
        factors = sum(each.size_bytes for each in weights.values())
        # Beside the factors: a row of 32 bytes for each product, and alignment.
        assert factors <= sum(machine.uploads) <= factors + 50 * 64
        assert (len(machine.uploads), machine.copies, machine.launches) == (1, 0, 50)
    # The way back to the package's own weights is a copy within the device.
    machine.write({name: LowRankUpdate(each.base, ()) for name, each in same.items()}, places)
    assert (machine.uploads, machine.copies, machine.launches) == ([], 50, 0)


def test_without_room_a_change_uploads_bases_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    places = machine.placed(WEIGHTS)
    machine.device.left_free = machine.cuda.memory()[0]
    sizes = []
    for _ in range(2):
        machine.write(WEIGHTS, places)
        sizes.append(sum(machine.uploads))
    assert sizes[0] == sizes[1] >= sum(base_of(each).size_bytes for each in WEIGHTS.values())
    assert SPARE not in machine.cuda.used
    [told] = machine.device.shortfalls
    assert told.startswith("denoiser: changes of LoRAs upload weights of the package anew")


def test_pinned_memory_does_not_grow_with_the_factors_of_a_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of a weight that a hundred LoRAs change."""
    piece = 2**12
    monkeypatch.setattr("runtime.backends.device.staging.PIECE", piece)
    monkeypatch.setattr("runtime.backends.device.weights.PIECE", piece)
    machine = Machine(monkeypatch)
    weights = {"many": update("F16", 16, 16, dict.fromkeys(range(64, 128), "F16"))}
    places = machine.placed(weights)
    machine.write(weights, places)
    machine.holds(weights, places)
    pinned = sum(block.nbytes for block in machine.fake._pinned.values())
    assert pinned <= 6 * piece < weights["many"].size_bytes


def test_engines_share_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    weights = {"small": WEIGHTS["small"]}
    places = machine.placed(weights)
    machine.write(weights, places)
    stream = Stream(machine.cuda, urgent=True)
    DeviceWeights(machine.device, stream, KeptBases(machine.device, "text_encoder")).write(
        weights, places
    )
    machine.holds(weights, places)
    assert machine.fake.modules == 1


def test_factors_lie_on_the_device_only_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    weights = {"large": WEIGHTS["large"]}
    places = machine.placed(weights)
    before = machine.fake.allocated_bytes
    machine.write(weights, places)
    assert machine.fake.allocated_bytes == before + machine.cuda.used[SPARE]
    assert "LoRA factors" not in machine.cuda.used
    machine.bases.close()
    assert machine.fake.allocated_bytes == before


def test_no_room_for_the_factors_is_one_clear_error_and_no_lost_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, memory=12000)
    weights = {"fp32": update("F32", 16, 100, {9: "F32"})}
    places = machine.placed(weights)
    taken = machine.cuda.allocate(3000, "by others")
    with pytest.raises(BackendError, match="does not hold LoRA factors") as refusal:
        machine.write(weights, places)
    assert not isinstance(refusal.value, DeviceError)
    machine.cuda.free(taken)
    machine.write(weights, places)
    machine.holds(weights, places)


def test_a_kernel_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr(
        machine.fake, "cuModuleGetFunction", lambda *_: (FakeResult.CUDA_ERROR_NOT_FOUND, 0)
    )
    weights = {"small": WEIGHTS["small"]}
    with pytest.raises(DeviceError, match="low_rank: CUDA_ERROR_NOT_FOUND: the words for 500"):
        machine.write(weights, machine.placed(weights))


def test_kernels_that_cannot_be_loaded_leave_no_copy_of_a_base(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver takes memory for them, which a copy would lack."""
    machine = Machine(monkeypatch)
    monkeypatch.setattr(
        machine.fake, "cuModuleLoadData", lambda _: (FakeResult.CUDA_ERROR_INVALID_VALUE, 0)
    )
    weights = {"small": WEIGHTS["small"]}
    with pytest.raises(DeviceError, match="cuModuleLoadData"):
        machine.write(weights, machine.placed(weights))
    assert list(machine.cuda.used) == ["weights"]
