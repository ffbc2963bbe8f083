"""Descriptions of a target."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine_build.target.report import uncaptured
from runtime.package.target import FOLDER, Target, read_target, write_target
from tests.runtime.package.targets import Made, add_target
from tests.tiny.lora_packs import ENGINES


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """One whose VAE has a node that no CUDA graph can hold, and whose denoiser has seven."""
    package = tmp_path / "demo"
    shutil.copytree(ENGINES / "demo", package, ignore=shutil.ignore_patterns(FOLDER))
    made = add_target(package, Made(backend="onnxruntime-cuda"))
    nodes = {"vae_decoder": ("a: waits",), "denoiser": tuple(f"n{each}: no" for each in range(7))}
    engines = {
        role: replace(engine, uncaptured=nodes.get(role, ()))
        for role, engine in made.record.engines.items()
    }
    write_target(made.path, replace(made.record, engines=engines))
    return read_target(made.path)


def test_roles_that_run_without_a_cuda_graph_are_named_with_the_nodes(target: Target) -> None:
    assert sorted(uncaptured(target)) == [
        (
            "denoiser: runs without a CUDA graph, which cannot hold "
            "n0: no; n1: no; n2: no; n3: no; n4: no; and 2 nodes more"
        ),
        "vae_decoder: runs without a CUDA graph, which cannot hold a: waits",
    ]
