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

from runtime.package.tensors import Tensor, stored
from tests.fakes.operators import gated_activation, gated_sum_norm, rotated_heads
from tests.fakes.operators_host import build_operators
from tests.places import ROOT
from tests.rehearsal.build import build
from tests.rehearsal.stage import LIBRARY, behind, needs_library

pytestmark = needs_library

TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float"}

INPUTS = {
    "x": (2, 7, 64),
    "branch": (2, 7, 64),
    "gate": (2, 1, 64),
    "scale": (2, 64),
    "text": (2, 3, 64),
    "weight": (16,),
    "bias": (64,),
    "cosines": (1, 10, 16),
    "sines": (1, 10, 16),
}
TABLES = {"cosines", "sines"}

NODES = """
    normed, total = calotype.GatedSumNorm <norm = "layer", epsilon = 0.00001>
        (x, branch, bias, "", gate, "", scale)
    only_normed = calotype.GatedSumNorm <norm = "rms", epsilon = 0.00001> (total)
    "", only_total = calotype.GatedSumNorm <norm = "rms", epsilon = 0.00001> (normed, branch)
    heads = calotype.RotatedHeads <heads = 4, epsilon = 0.00001>
        (text, "", weight, only_total, bias, weight, cosines, sines)
    values = calotype.RotatedHeads <heads = 4> (x, bias)
    active = calotype.GatedActivation <activation = "gelu_tanh"> (x, bias, "", "", branch)
    packed = calotype.GatedActivation <activation = "silu", packed = 1> (x)
"""
OUTPUTS = {
    "normed": 64,
    "total": 64,
    "only_normed": 64,
    "only_total": 64,
    "heads": 64,
    "values": 64,
    "active": 128,
    "packed": 32,
}


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
        onnx.save(_model(nodes, outputs, given), graph)
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


def _model(nodes: str, outputs: dict[str, int], given: dict[str, Tensor]) -> onnx.ModelProto:
    read = ", ".join(
        f"{TYPES[each.dtype]}[{','.join(map(str, each.values.shape))}] {name}"
        for name, each in given.items()
    )
    dtype = TYPES[given["x"].dtype]
    made = ", ".join(f"{dtype}[rows, tokens, {width}] {name}" for name, width in outputs.items())
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21, "calotype" : 1]>\n'
        f"operators ({read}) => ({made}) {{ {nodes} }}"
    )


def _given(dtype: str) -> dict[str, Tensor]:
    draw = np.random.default_rng(5)
    made = {}
    for name, shape in INPUTS.items():
        kind = "F32" if name in TABLES else dtype
        made[name] = Tensor(kind, stored(draw.standard_normal(shape).astype(np.float32), kind))
    return made


def _expected(dtype: str, given: dict[str, Tensor]) -> dict[str, np.ndarray]:
    def rounded(values: np.ndarray) -> np.ndarray:
        return Tensor(dtype, stored(values.astype(np.float32), dtype)).fp32()

    n = {name: each.fp32() for name, each in given.items()}
    x, branch, bias, weight = n["x"], n["branch"], n["bias"], n["weight"]
    norm: dict[str, Any] = {"epsilon": 1e-5, "rounded": rounded}
    modulated = [x, branch, bias, None, n["gate"], None, n["scale"]]
    normed, total = gated_sum_norm(modulated, norm="layer", **norm)
    _, only_total = gated_sum_norm([rounded(normed), branch], norm="rms", **norm)
    streams = [n["text"], None, weight, only_total, bias, weight, n["cosines"], n["sines"]]
    return {
        "normed": normed,
        "total": total,
        "only_normed": gated_sum_norm([total], norm="rms", **norm)[0],
        "only_total": only_total,
        "heads": rotated_heads(streams, heads=4, epsilon=1e-5),
        "values": rotated_heads([x, bias], heads=4),
        "active": gated_activation([x, bias, None, None, branch], activation="gelu_tanh"),
        "packed": gated_activation([x], activation="silu", packed=1),
    }


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_graph_of_our_operators_is_captured_and_computes(
    stage: Stage, dtype: str, tmp_path: Path
) -> None:
    given = _given(dtype)
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
    for output, expected in _expected(dtype, given).items():
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
    seen, _, _ = stage.rehearsed(tmp_path, named, {"y": 64}, _given("F16"))
    assert WRONG[node] in seen["error"]


def test_no_session_opens_where_the_driver_lacks_our_kernels(stage: Stage, tmp_path: Path) -> None:
    nowhere = Stage(stage.stand_ins, tmp_path / "no.so")
    node = "y = calotype.RotatedHeads <heads = 4> (x)"
    seen, _, _ = nowhere.rehearsed(tmp_path, node, {"y": 64}, _given("F16"))
    assert (
        "cuModuleLoadData of the kernels of f32 and f16 answers CUDA_ERROR_NOT_FOUND (500)"
        in seen["error"]
    )
