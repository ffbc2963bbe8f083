"""SDXL of published size by the real onnxruntime-gpu on the stand-ins, of weights that take no room
on the disk: minutes, and 6 GB of memory for what stands in for the device's.
"""

from pathlib import Path

import onnx_ir as ir
import pytest

from benchmarks.published_graphs import compiled_graph, published_roles
from benchmarks.real_size import write_hollow
from engine_build.quiet import quiet
from engine_build.target.onnxruntime_cuda.prelude import split_prelude
from runtime.package.step_graph import conditioning_of
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
            model = compiled_graph(roles[role])
            names = {str(value.name) for value in model.graph.inputs}
            prelude = split_prelude(model, conditioning_of(names)) if role == "denoiser" else None
            for graph, end in ((model, "onnx"), (prelude, "prelude.onnx")):
                if graph is not None:
                    content = ir.to_proto(graph).SerializeToString()
                    (graphs / f"{role}.{end}").write_bytes(content)
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


def test_a_guided_step_of_published_size_launches_few_kernels(
    stage: Stage, checkpoint: Path
) -> None:
    """At most 1,300, where 2,870 launches were counted on a GPU before the fusions."""
    seen, log = stage.rehearsed("denoiser", checkpoint / WEIGHTS["denoiser"], "bare")
    assert seen["behind"] == ["ran"] * 2
    kernels = [line for line in behind(log, "behind") if " kernel " in line]
    assert len(kernels) <= 2 * 1300
    assert sum("SkipLayerNorm" in line for line in kernels) == 2 * 210
    # cuDNN attends: no kernel prepares what it reads.
    assert not [line for line in kernels if "attention" in line.lower() or "Qkv" in line]
