"""Our operators in the real onnxruntime-gpu on the stand-ins, which run our kernels on the host:
`make rehearse` has it.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from runtime.package.tensors import Tensor
from tests.fakes.operators_host import build_operators
from tests.places import ROOT
from tests.rehearsal.build import build
from tests.rehearsal.stage import LIBRARY, behind, needs_library
from tests.tiny.operators import NODES, OUTPUTS, expected_of, given_of, model

pytestmark = needs_library


@dataclass(frozen=True)
class Stage:
    """Folders of the stand-ins, and of our kernels on the host."""

    stand_ins: Path
    kernels: Path

    def rehearsed(
        self, folder: Path, nodes: str, outputs: dict[str, int], given: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor], str]:
        """The findings, the outputs, and the log. `outputs` says how wide they are."""
        dtype = given["x"].dtype
        graph, log = folder / "graph.onnx", folder / "log"
        onnx.save(model(nodes, outputs, given), graph)
        np.savez(folder / "inputs.npz", **{name: each.values for name, each in given.items()})
        command = [
            sys.executable, "-m", "tests.rehearsal.operators", str(self.stand_ins), LIBRARY,
            str(graph), str(folder / "inputs.npz"), str(folder / "outputs.npz"),
        ]  # fmt: skip
        environment = {
            **os.environ, "REHEARSAL_LOG": str(log), "REHEARSAL_KERNELS": str(self.kernels),
        }  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout.splitlines()[-1])
        if seen["error"]:
            return seen, {}, log.read_text()
        with np.load(folder / "outputs.npz") as made:
            numbers = {name: Tensor(dtype, made[name]) for name in made}
        return seen, numbers, log.read_text()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("stand_ins")
    return Stage(build(folder), build_operators(folder))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_graph_of_our_operators_is_captured_and_computes(
    stage: Stage, dtype: str, tmp_path: Path
) -> None:
    given = given_of(dtype)
    seen, made, log = stage.rehearsed(tmp_path, NODES, OUTPUTS, given)
    assert seen == {"error": "", "shortfalls": []}
    captured = [line for line in log.splitlines() if line.startswith("C ")]
    kernels = [line.split()[-1] for line in captured if line.startswith("C kernel")]
    name = dtype.lower()
    assert sorted(kernels) == sorted(
        [f"gated_sum_norm_{name}_packs"] * 3
        + [f"rotated_heads_{name}_packs"] * 2
        + [f"gated_activation_{name}_packs"] * 2
    )
    work = [line.split()[1] for line in captured]
    assert set(work) == {"capture_begin", "kernel", "capture_end"}
    assert log.count("cuModuleLoadData") == 1
    launched = [line for line in behind(log, "behind") if "launch" in line or "kernel" in line]
    assert [line.split()[1] for line in launched] == ["graph_launch"] * 2
    step = {"F16": 2**-9, "BF16": 2**-6}[dtype]
    for output, expected in expected_of(given).items():
        np.testing.assert_allclose(made[output].fp32(), expected, rtol=step, atol=step)


WRONG = {
    'y = calotype.GatedSumNorm <norm = "rms", epsilon = 0.1> (x, text)': (
        "GatedSumNorm node 'here': input 'branch' has the shape [2, 3, 64], expected [2, 7, 64]"
    ),
    "y = calotype.RotatedHeads <heads = 6> (x)": (
        "RotatedHeads node 'here': input 'first' has 64 channels, expected a multiple of 6 heads"
    ),
    'y = calotype.GatedActivation <activation = "relu"> (x)': (
        "GatedActivation node 'here': attribute 'activation' is 'relu', expected 'silu', 'gelu'"
    ),
}


@pytest.mark.parametrize("node", WRONG)
def test_a_wrong_node_is_told_by_name(stage: Stage, node: str, tmp_path: Path) -> None:
    named = f"[here] {node}"
    seen, _, _ = stage.rehearsed(tmp_path, named, {"y": 64}, given_of("F16"))
    assert WRONG[node] in seen["error"]


def test_no_session_opens_where_the_driver_lacks_our_kernels(stage: Stage, tmp_path: Path) -> None:
    nowhere = Stage(stage.stand_ins, tmp_path / "no.so")
    node = "y = calotype.RotatedHeads <heads = 4> (x)"
    seen, _, _ = nowhere.rehearsed(tmp_path, node, {"y": 64}, given_of("F16"))
    assert (
        "cuModuleLoadData of the kernels of f32 and f16 answers CUDA_ERROR_NOT_FOUND (500)"
        in seen["error"]
    )
