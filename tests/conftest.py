"""Tiny models, saved and built once for the whole session: building one takes most of a minute."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.models import SourceOptions, save_source

# A loaded machine is slow; what a test says must not depend on it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

PackageBuilder = Callable[[Path, str], Path]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny networks gain nothing from more threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> PackageBuilder:
    """Builds a package into one engines folder of the session; returns that folder."""
    from engine_build.build import BuildRequest, build_package

    engines = tmp_path_factory.mktemp("engines")

    def build(source: Path, name: str) -> Path:
        if not (engines / name).is_dir():
            build_package(
                BuildRequest(source=source, name=name, engines=engines), show_progress=False
            )
        return engines

    return build


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: fp32, epsilon prediction, with a preview decoder in it."""
    return save_source(tmp_path_factory.mktemp("sources") / "tiny")


@pytest.fixture(scope="session")
def tiny_package(tiny_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny` of `tiny_source`."""
    return build_once(tiny_source, "tiny")


@pytest.fixture(scope="session")
def tiny_v_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v prediction, zero-terminal SNR, trailing timesteps, no preview decoder."""
    options = SourceOptions(
        prediction_type="v_prediction",
        zero_terminal_snr=True,
        timestep_spacing="trailing",
        preview_decoder=False,
        seed=100,
    )
    return save_source(tmp_path_factory.mktemp("sources") / "tiny_v", options)


@pytest.fixture(scope="session")
def tiny_v_package(tiny_v_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny_v` of `tiny_v_source`; previews by a matrix."""
    return build_once(tiny_v_source, "tiny_v")


@pytest.fixture(scope="session")
def tiny_half_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp16 in files of that variant alone, as SDXL is mostly published; a shallow UNet."""
    options = SourceOptions(
        dtype=torch.float16, variant="fp16", preview_decoder=False, shallow=True, seed=200
    )
    return save_source(tmp_path_factory.mktemp("sources") / "tiny_half", options)


@pytest.fixture(scope="session")
def tiny_half_package(tiny_half_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny_half` of `tiny_half_source`."""
    return build_once(tiny_half_source, "tiny_half")
