"""Small transformers of the real architectures, with our operators, by the real onnxruntime-gpu on
the stand-ins: `make rehearse` has it.
"""

from pathlib import Path

import onnx_ir as ir
import pytest

from engine_build.target.onnxruntime_cuda.compiler import compile_role
from runtime.package.manifest import load_package
from tests.rehearsal.build import build
from tests.rehearsal.stage import Stage, behind, needs_library

pytestmark = needs_library


@pytest.mark.parametrize("name", ["tiny_flux", "tiny_zimage"])
def test_a_transformer_with_our_operators_is_captured(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    package = load_package(request.getfixturevalue(f"{name}_package"), name)
    path = compile_role(package, "denoiser", "bf16", tmp_path).path
    nodes = sum(node.domain == "calotype" for node in ir.load(path).graph)
    stage = Stage(build(tmp_path / "stand_ins"), tmp_path, latents=8)
    seen, log = stage.rehearsed("denoiser", package.weights_folder("denoiser"), "bare")
    ran = {"plain": "ran", "captured": "ran", "end": "cudaSuccess", "behind": ["ran", "ran"]}
    assert seen == ran
    kernels = [line.split()[-1] for line in behind(log, "capture") if line.startswith("C kernel")]
    ours = [kernel for kernel in kernels if kernel.endswith(("_packs", "_elements"))]
    assert len(ours) == nodes > 0
