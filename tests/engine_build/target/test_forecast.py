"""The forecast before a reference is drawn on the CPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine_build.target.capture import plans_of
from engine_build.target.forecast import forecast, memory_bytes, seconds
from runtime.package.manifest import Manifest, Parameter, load_package
from runtime.plan.model import model_of
from tests.places import ENGINES
from tests.tiny.wide_demo import demo_of_all_sizes


def with_denoiser(manifest: Manifest, *shape: int) -> Manifest:
    """A package whose denoiser has one parameter, and that has no other networks."""
    parameter = Parameter("w", shape, "F16")
    denoiser = replace(manifest.roles["denoiser"], parameters={"w": parameter})
    return replace(manifest, roles={"denoiser": denoiser})


def test_a_step_of_sdxl_takes_what_was_measured(tmp_path: Path) -> None:
    """35 s a guided step at 512x512 on 2 cores, its weights widened once; here in every call."""
    package = load_package(demo_of_all_sizes(tmp_path), "demo")
    plans = plans_of(model_of(package), [(512, 512)])
    sdxl = with_denoiser(package.manifest, 2_570_000_000, 1, 1, 1)
    # Two steps with guidance, two without: three guided ones, and four calls.
    widening = 4 * 2.57e9 * 6e-9
    assert seconds(sdxl, plans, cores=2) - widening == pytest.approx(3 * 35, rel=0.1)


def test_larger_pictures_and_fewer_cores_take_longer() -> None:
    package = load_package(ENGINES, "demo")
    small, large = (plans_of(model_of(package), [(side, side)]) for side in (64, 128))
    base = seconds(package.manifest, small, cores=2)
    assert 0 < base < seconds(package.manifest, large, cores=2)
    assert base < seconds(package.manifest, small, cores=1)


def test_it_is_a_sentence_with_minutes_cores_and_memory(tmp_path: Path) -> None:
    package = load_package(demo_of_all_sizes(tmp_path), "demo")
    said = forecast(package, [(1024, 1024)])
    assert " minutes on " in said
    assert " GB of memory beside a file of weights of 0.0 GB" in said


@pytest.mark.parametrize(("side", "measured"), [(512, 2.72e9), (1024, 6.15e9)])
def test_memory_is_what_sdxl_was_measured_to_take(side: int, measured: float) -> None:
    assert memory_bytes(side * side) == pytest.approx(measured, rel=0.02)
