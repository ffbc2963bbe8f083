"""The reference of a command: where it is drawn, when, and what is said before."""

from typing import Any

import pytest

from engine_build.target import reference as module
from engine_build.target.reference import Reference, place_here
from engine_build.target.unfused import CPU, CUDA, Place
from runtime.backends.devices import Devices, Gpu
from runtime.package.manifest import load_package
from tests.places import ENGINES

HERE = Devices((Gpu("H200", "sm_90", 150 * 10**9, "13.0"),), "")
NOWHERE = Devices((), "no GPU")
INSTALLED = [CUDA.provider, CPU.provider]

DEVICE = Place(CPU.provider, {"stands": "for a device"})
"""The CPU's provider where a device's would be."""


@pytest.mark.parametrize(
    ("devices", "providers", "place"),
    [
        (HERE, INSTALLED, CUDA),
        (HERE, [CPU.provider], CPU),
        (NOWHERE, INSTALLED, CPU),
        (NOWHERE, [CPU.provider], CPU),
        # What is installed in the tests' environment.
        (HERE, None, CPU),
    ],
)
def test_the_place_is_the_gpu_where_its_provider_is_installed(
    devices: Devices, providers: list[str] | None, place: Place
) -> None:
    assert place_here(devices, providers) == place


def test_on_the_cpu_it_is_told_beforehand_what_it_takes_and_on_a_device_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = load_package(ENGINES, "demo")
    happened: list[str] = []

    def drawn(*_: Any) -> dict[str, list[Any]]:
        happened.append("drawn")
        return {}

    monkeypatch.setattr(module, "captured_calls", drawn)
    on_cpu = Reference(package, [(64, 64)], CPU, tell=happened.append)
    assert happened == []
    assert on_cpu.calls is on_cpu.calls
    sentence, *rest = happened
    assert rest == ["drawn"]
    assert "on the CPU, one network at a time: some " in sentence
    assert "minutes on " in sentence
    assert "GB of memory" in sentence
    happened.clear()
    assert Reference(package, [(64, 64)], DEVICE, tell=happened.append).calls == {}
    assert happened == ["drawn"]


def test_what_stands_for_a_device_computes() -> None:
    """So tests run on it what runs on a device."""
    calls = Reference(load_package(ENGINES, "demo"), [(64, 64)], DEVICE).calls
    assert len(calls["vae_decoder"]) == 2
