"""The package's own weights that stay on a device, as far as its memory has room for them."""

import threading
from itertools import pairwise

import pytest

from runtime.backends.device.bases import KeptBases
from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.device.device import Device
from runtime.backends.low_rank import Weights
from runtime.backends.protocol import SPARE
from runtime.errors import BackendError
from tests.fakes.cuda import FakeCuda, FakeProperties
from tests.runtime.backends.device.updates import update

WEIGHTS: Weights = {f"w{i}": update("F16", 16, 32, {}) for i in range(4)}
SIZE = 1024
"""Bytes of each."""


@pytest.fixture
def device() -> Device:
    fake = FakeCuda((FakeProperties(totalGlobalMem=10 * SIZE),))
    return Device(Cuda(fake, fake))


def keep(bases: KeptBases, weights: Weights = WEIGHTS) -> dict[str, int]:
    with bases.held() as kept:
        for name, address in bases.room(weights).items():
            bases.add(name, address)
        return dict(kept)


def test_as_many_are_kept_as_runs_leave_room_for(device: Device) -> None:
    bases = KeptBases(device, "denoiser")
    device.left_free = 7 * SIZE
    assert list(keep(bases)) == ["w0", "w1", "w2"]
    assert device.cuda.used[SPARE] == 3 * SIZE
    assert [told.partition(":")[0] for told in device.shortfalls] == ["denoiser"]


def test_each_has_a_place_of_its_own(device: Device) -> None:
    bases = KeptBases(device, "denoiser")
    kept = keep(bases, {name: WEIGHTS[name] for name in ("w0", "w1")})
    kept = keep(bases, {name: WEIGHTS[name] for name in ("w2", "w3")})
    places = sorted(kept.values())
    assert all(b - a >= SIZE for a, b in pairwise(places))
    assert list(device.shortfalls) == []
    assert "w0" in bases
    bases.close()
    assert "w0" not in bases
    assert device.cuda.used == {}


@pytest.mark.parametrize("want", ["allocate", "check_room"])
def test_they_are_given_back_for_good_where_memory_falls_short(device: Device, want: str) -> None:
    """On the thread of another engine."""
    bases, others = KeptBases(device, "denoiser"), KeptBases(device, "text_encoder")
    keep(bases)
    failed: list[BackendError] = []

    def ask() -> None:
        try:
            if want == "allocate":
                device.cuda.allocate(8 * SIZE, "buffers")
            else:
                device.cuda.check_room({"text_encoder with LoRAs": 8 * SIZE})
        except BackendError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert not failed
    assert SPARE not in device.cuda.used
    assert keep(bases) == {}
    assert len(list(device.shortfalls)) == 1
    assert keep(others, {"w0": WEIGHTS["w0"]})


def test_they_stay_while_the_device_reads_them(device: Device) -> None:
    bases = KeptBases(device, "denoiser")
    keep(bases)
    thread = threading.Thread(target=lambda: device.cuda.allocate(8 * SIZE, "buffers"))
    with bases.held() as kept:
        thread.start()
        assert len(kept) == len(WEIGHTS)
        assert device.cuda.used[SPARE] == 4 * SIZE
    thread.join()
    assert device.cuda.used == {"buffers": 8 * SIZE}


def test_who_comes_late_to_a_shortage_tries_again_as_well(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread gives all memory back between the failure and the answer to the failure."""
    keep(KeptBases(device, "denoiser"))
    cuda, attempt = device.cuda, device.cuda.try_allocate

    def late(size_bytes: int, use: str) -> DeviceMemory | None:
        made = attempt(size_bytes, use)
        if made is None:
            thread = threading.Thread(target=lambda: cuda.release_spare(cuda.releases))
            thread.start()
            thread.join()
        return made

    monkeypatch.setattr(cuda, "try_allocate", late)
    cuda.allocate(8 * SIZE, "buffers")
    assert device.cuda.used == {"buffers": 8 * SIZE}
    assert not cuda.release_spare(cuda.releases)


def test_what_is_short_with_nothing_to_give_back_is_refused(device: Device) -> None:
    bases = KeptBases(device, "denoiser")
    keep(bases)
    bases.close()
    with pytest.raises(BackendError, match="does not hold buffers"):
        device.cuda.allocate(11 * SIZE, "buffers")
