"""The way of weights to the device as the real onnxruntime-gpu goes it, on the stand-ins.

A weight that a graph takes as it is stored goes up once, through pinned memory that is given back
before the session is open: https://github.com/microsoft/onnxruntime/pull/32437 and 32502. A weight
that is transposed first is folded: the provider transposes the weight on the host while it opens
the graph, and puts the copy on the device alone.
"""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.rehearsal.build import build
from tests.rehearsal.stage import Stage, behind, needs_library

WIDTH, COUNT = 1024, 3
SIZE = 2 * WIDTH * WIDTH

pytestmark = needs_library


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("graphs")
    for kind in ("stored", "transposed"):
        write(folder, kind)
    return Stage(build(tmp_path_factory.mktemp("stand_ins")), folder, latents=8)


def write(folder: Path, kind: str) -> None:
    """A chain of products in bf16, whose weights lie in a file beside the graph."""
    (folder / "weights").write_bytes(np.ones(COUNT * WIDTH * WIDTH, np.uint16).tobytes())
    given = ir.Value(name="x", type=ir.TensorType(ir.DataType.BFLOAT16))
    given.shape = ir.Shape((1, WIDTH))
    nodes, last, weights = [], given, []
    for index in range(COUNT):
        name = f"weight{index}"
        tensor = ir.ExternalTensor(
            "weights", index * SIZE, SIZE, ir.DataType.BFLOAT16,
            shape=ir.Shape((WIDTH, WIDTH)), name=name, base_dir=folder,
        )  # fmt: skip
        weight = ir.Value(
            name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype)
        )
        weights.append(weight)
        if kind == "transposed":
            turned = ir.node("Transpose", [weight], {"perm": [1, 0]})
            nodes.append(turned)
            product = ir.node("MatMul", [last, turned.outputs[0]])
        else:
            product = ir.node("FusedMatMul", [last, weight], {"transB": 1}, domain="com.microsoft")
        nodes.append(product)
        last = product.outputs[0]
    last.name, last.type, last.shape = "y", given.type, given.shape
    opsets = {"": 20, "com.microsoft": 1}
    graph = ir.Graph([given], [last], nodes=nodes, initializers=weights, opset_imports=opsets)
    ir.save(ir.Model(graph, ir_version=10), folder / f"{kind}.onnx")


def calls(log: str, mark: str) -> list[list[str]]:
    """The words of the calls behind a mark."""
    return [words for line in behind(log, mark) if len(words := line.split()) > 1]


@pytest.mark.parametrize("kind", ["stored", "transposed"])
def test_each_weight_is_on_the_device_once_and_all_is_given_back(stage: Stage, kind: str) -> None:
    _, log = stage.rehearsed(kind, stage.folder, "opened")
    opening = calls(log, "opening")
    placed = {words[2]: int(words[3]) for words in opening if words[1] == "cudaMalloc"}
    assert sorted(placed.values()) == [SIZE] * COUNT
    copied = [words for words in opening if words[1] == "copy"]
    assert sum(int(words[-1]) for words in copied) == SIZE * COUNT
    freed = {words[2] for words in calls(log, "open") if words[1] == "cudaFree"}
    assert freed == placed.keys()


def test_pinned_memory_is_given_back_before_a_session_is_open(stage: Stage) -> None:
    _, log = stage.rehearsed("stored", stage.folder, "opened")
    opening = calls(log, "opening")
    taken = {words[2] for words in opening if words[1] == "cudaMallocHost"}
    given = {words[2] for words in opening if words[1] == "cudaFreeHost"}
    assert taken
    assert taken == given


def test_a_weight_that_is_transposed_first_goes_through_pageable_memory(stage: Stage) -> None:
    """Such weights miss the provider's quick way: each is a copy on the host for a while."""
    kinds = {
        kind: {words[3] for words in calls(log, "opening") if words[1] == "copy"}
        for kind in ("stored", "transposed")
        for _, log in [stage.rehearsed(kind, stage.folder, "opened")]
    }
    assert kinds == {"stored": {"pinned"}, "transposed": {"pageable"}}
