"""Tiny models, saved and built once for the whole session: building one takes most of a minute."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import torch

from benchmarks.tiny.flow_models import (
    chroma_pipeline,
    flux_dev_pipeline,
    flux_schnell_pipeline,
    save_flow_source,
)
from benchmarks.tiny.models import SourceOptions, save_source
from benchmarks.tiny.zimage_models import zimage_pipeline
from engine_build.package.export.role import Choices
from runtime.package.adaptable import adaptable_graphs
from runtime.package.manifest import load_package
from runtime.package.shelf import LoraShelf
from tests.places import ENGINES
from tests.tiny.kept_packages import KeptPackages
from tests.tiny.kept_traces import KeptTraces
from tests.tiny.lora_packs import demo_with_loras

pytest_plugins = ("tests.inputs", "tests.nats_server")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the demo's hashes known before there are other processes: a test that copies its package
    could otherwise meet the record's unfinished file, and find it gone."""
    if not hasattr(session.config, "workerinput"):
        package = load_package(ENGINES, "demo")
        adaptable_graphs(package)
        for pack in LoraShelf(package).packs():
            pack.factors()


def pytest_collection_finish() -> None:
    """Exempt from garbage collection what lasts to the end: a million objects of imported modules,
    which tracing a network would look through again and again."""
    gc.collect()
    gc.freeze()


class PackageBuilder(Protocol):
    """Builds `name` from a source, if it is not there yet; returns the engines folder."""

    def __call__(self, source: Path, name: str, choices: Choices | None = None) -> Path: ...


SMALL = Choices(width=64, height=96, max_size=1024)
"""For models whose own pictures are of 1024x1024, whatever their networks' size."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny networks gain nothing from more threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _kept_traces(pytestconfig: pytest.Config) -> Iterator[None]:
    """Builds in this process trace a network that was traced before from what is kept of it."""
    import engine_build.package.reduced
    import engine_build.package.roles

    assert pytestconfig.cache is not None
    kept = KeptTraces(pytestconfig.cache.mkdir("tiny_traces"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_build.package.roles, "trace", kept)
        patch.setattr(engine_build.package.reduced, "trace", kept)
        yield


@pytest.fixture(scope="session")
def build_once(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> PackageBuilder:
    """Builds a package into one engines folder of the session; returns that folder."""
    from engine_build.package.build import BuildRequest

    assert pytestconfig.cache is not None
    kept = KeptPackages(pytestconfig.cache.mkdir("tiny_packages"))
    engines = tmp_path_factory.mktemp("engines")

    def build(source: Path, name: str, choices: Choices | None = None) -> Path:
        if not (engines / name).is_dir():
            kept.build(BuildRequest(source, name, engines, choices=choices or Choices()))
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


@pytest.fixture(scope="session")
def tiny_wide_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp16, v prediction, and a shallow UNet whose second level has the width of SDXL's first one:
    every fusion of CUDA's graphs fits that width."""
    options = SourceOptions(
        dtype=torch.float16,
        prediction_type="v_prediction",
        preview_decoder=False,
        shallow=True,
        channels=(32, 320),
        head_width=32,
        seed=300,
    )
    return save_source(tmp_path_factory.mktemp("sources") / "tiny_wide", options)


@pytest.fixture(scope="session")
def tiny_wide_package(tiny_wide_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny_wide` of `tiny_wide_source`."""
    return build_once(tiny_wide_source, "tiny_wide")


@pytest.fixture(scope="session")
def tiny_flux_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FLUX.1 dev: told its guidance, shifted by the picture's size."""
    return save_flow_source(tmp_path_factory.mktemp("sources") / "tiny_flux", flux_dev_pipeline())


@pytest.fixture(scope="session")
def tiny_flux_package(tiny_flux_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny_flux` of `tiny_flux_source`."""
    return build_once(tiny_flux_source, "tiny_flux", SMALL)


@pytest.fixture(scope="session")
def tiny_schnell_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FLUX.1 schnell: no guidance, no shift."""
    folder = tmp_path_factory.mktemp("sources") / "tiny_schnell"
    return save_flow_source(folder, flux_schnell_pipeline())


@pytest.fixture(scope="session")
def tiny_schnell_package(tiny_schnell_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny_schnell` of `tiny_schnell_source`."""
    return build_once(tiny_schnell_source, "tiny_schnell", SMALL)


@pytest.fixture(scope="session")
def tiny_chroma_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chroma, with real guidance."""
    return save_flow_source(tmp_path_factory.mktemp("sources") / "tiny_chroma", chroma_pipeline())


@pytest.fixture(scope="session")
def tiny_chroma_package(tiny_chroma_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny_chroma` of `tiny_chroma_source`."""
    return build_once(tiny_chroma_source, "tiny_chroma", SMALL)


@pytest.fixture(scope="session")
def tiny_zimage_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Z-Image Turbo: Qwen3 with a chat template, a fixed shift, no guidance."""
    return save_flow_source(tmp_path_factory.mktemp("sources") / "tiny_zimage", zimage_pipeline())


@pytest.fixture(scope="session")
def tiny_zimage_package(tiny_zimage_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `tiny_zimage` of `tiny_zimage_source`."""
    return build_once(tiny_zimage_source, "tiny_zimage", SMALL)


@pytest.fixture(scope="session")
def lora_engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engines folder with the committed `demo` and six LoRA packs, `lora0` to `lora5`."""
    return demo_with_loras(tmp_path_factory.mktemp("lora_engines"))
