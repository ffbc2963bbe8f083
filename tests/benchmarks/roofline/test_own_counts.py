"""Instructions counted for our operators in the roofline, against those that their PTX executes."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import pytest

from benchmarks.roofline.call import NodeCall
from benchmarks.roofline.kernels import KERNELS
from benchmarks.roofline.value_facts import ValueFacts
from tests.fakes.operators_host import compiler
from tests.fakes.operators_ptx import PtxApi, build_launching_operators
from tests.fakes.ptx import machine
from tests.runtime.backends.onnxruntime.operator_runs import Draw, Given

WIDE = 4096
"""All that a block keeps in registers, so that no thread is idle."""

LAYER = {"norm": "layer", "epsilon": 1e-6}
RMS = {"norm": "rms", "epsilon": 1e-5, "branch_epsilon": 1e-5}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> PtxApi:
    if compiler() is None:
        pytest.skip("there is no gcc here, which compiles the library of operators")
    return PtxApi(build_launching_operators(tmp_path_factory.mktemp("operators")))


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Executed instructions by name, for each thread."""
    counted: Counter[str] = Counter()
    run = machine._Machine._run

    def counting(self: machine._Machine, at: np.ndarray, here: int) -> None:
        counted[self._kernel.instructions[here].code.partition(".")[0]] += at.size
        run(self, at, here)

    monkeypatch.setattr(machine._Machine, "_run", counting)
    return counted


def call_of(
    name: str, inputs: Sequence[Given], attributes: Mapping[str, float | int | str], outputs: int
) -> NodeCall:
    def facts(each: Given) -> ValueFacts | None:
        dtype = {"BF16": ir.DataType.BFLOAT16, "F32": ir.DataType.FLOAT}
        return None if each is None else ValueFacts(each.values.shape, dtype[each.dtype])

    node = ir.node(name, [], attributes=dict(attributes), domain="calotype")
    given = tuple(map(facts, inputs))
    return NodeCall(node, name, given, (False,) * len(given), (given[0],) * outputs)


draw = Draw("BF16")
ROW, GATE, VECTOR = (lambda: draw(1, 1, WIDE)), (lambda: draw(1, 1, WIDE)), (lambda: draw(WIDE))
TABLE = lambda: draw(1, 1, 128, dtype="F32")  # noqa: E731
RUNS = {
    "flux's sums": (
        "GatedSumNorm", [ROW(), ROW(), VECTOR(), None, GATE(), None, GATE(), GATE()], LAYER, 2
    ),
    "flux's first norm": (
        "GatedSumNorm", [ROW(), None, None, None, None, None, GATE(), GATE()], LAYER, 1
    ),
    "zimage's sums": (
        "GatedSumNorm", [ROW(), ROW(), None, VECTOR(), GATE(), VECTOR(), GATE()],
        {**RMS, "gate_tanh": 1}, 2,
    ),
    "queries": (
        "RotatedHeads", [ROW(), VECTOR(), draw(128), None, None, None, TABLE(), TABLE()],
        {"heads": 32, "epsilon": 1e-6}, 1,
    ),
    "values": ("RotatedHeads", [ROW(), VECTOR()], {"heads": 32, "epsilon": 0.0}, 1),
}  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_instructions_are_those_that_the_ptx_executes(
    api: PtxApi, executed: Counter[str], run: str
) -> None:
    name, inputs, attributes, outputs = RUNS[run]
    api.run(name, "BF16", inputs, attributes, (True,) * outputs)
    (launch,) = KERNELS[name](call_of(name, inputs, attributes, outputs)).launches
    counted = executed.total() - executed["mov"]
    assert launch.instructions == pytest.approx(counted, rel=0.06)
