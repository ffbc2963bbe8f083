"""SDXL of published size by the real onnxruntime-gpu on the stand-ins, of weights that take no room
on the disk: minutes, and 6 GB of memory for what stands in for the device's.
"""

from pathlib import Path

import onnx_ir as ir
import pytest

from benchmarks.published_graphs import compiled_graph, published_roles
from benchmarks.real_size import write_hollow
from engine_build.quiet import quiet
from tests.rehearsal.build import build
from tests.rehearsal.stage import Stage, behind, needs_library

WEIGHTS = {"text_encoder_2": "text_encoder_2", "denoiser": "unet"}
"""The folders of the checkpoint."""

pytestmark = needs_library


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hollow("sdxl", tmp_path_factory.mktemp("published") / "sdxl", shallow=False)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Stage:
    graphs = tmp_path_factory.mktemp("graphs")
    with quiet():
        roles = published_roles(checkpoint)
        for role in WEIGHTS:
            content = ir.to_proto(compiled_graph(roles[role])).SerializeToString()
            (graphs / f"{role}.onnx").write_bytes(content)
    return Stage(build(tmp_path_factory.mktemp("stand_ins")), graphs, latents=128)


@pytest.mark.parametrize("role", WEIGHTS)
def test_a_network_of_published_size_serves_as_a_graph(
    role: str, stage: Stage, checkpoint: Path
) -> None:
    seen, log = stage.rehearsed(role, checkpoint / WEIGHTS[role], "served")
    assert seen == {"runs": ["ran"] * 3, "shortfalls": []}
    lines = behind(log, "behind")
    assert len([line for line in lines if "launch" in line]) == 2
    assert not [line for line in lines if "kernel" in line or "Malloc" in line]
