"""A web server for each test, and a model whose weights every dtype holds exactly: however it is
stored, it is the same model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from benchmarks.tiny.models import SourceOptions, sdxl_pipeline
from tests.conftest import PackageBuilder
from tests.engine_build.fetch.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """On loopback; it serves what the test puts into its `contents`."""
    with Server().running() as running:
        yield running


@pytest.fixture(scope="session")
def rounded_pipeline() -> StableDiffusionXLPipeline:
    """In fp32, rounded to what both fp16 and bf16 can hold; epsilon prediction."""
    pipeline = sdxl_pipeline(SourceOptions(shallow=True))
    return pipeline.to(torch.float16).to(torch.bfloat16).to(torch.float32)


@pytest.fixture(scope="session")
def rounded_source(
    rounded_pipeline: StableDiffusionXLPipeline, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its diffusers folder: fp32, one file a network, no preview decoder."""
    path = tmp_path_factory.mktemp("sources") / "rounded"
    rounded_pipeline.save_pretrained(path, safe_serialization=True)
    return path


@pytest.fixture(scope="session")
def rounded_package(rounded_source: Path, build_once: PackageBuilder) -> Path:
    """An engines folder with the package `rounded` of `rounded_source`."""
    return build_once(rounded_source, "rounded")


@pytest.fixture(scope="session")
def sharded_source(rounded_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in bf16, its larger networks in several files."""
    path = tmp_path_factory.mktemp("sources") / "sharded"
    pipeline = StableDiffusionXLPipeline.from_pretrained(rounded_source, dtype=torch.bfloat16)
    pipeline.save_pretrained(path, safe_serialization=True, max_shard_size="200KB")
    return path


@pytest.fixture(scope="session")
def half_source(rounded_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in fp16, one file a network, of that variant alone."""
    path = tmp_path_factory.mktemp("sources") / "half"
    pipeline = StableDiffusionXLPipeline.from_pretrained(rounded_source, dtype=torch.float16)
    pipeline.save_pretrained(path, safe_serialization=True, variant="fp16")
    return path
