"""The reference's sessions: that weights are widened where they are used, and by whom."""

import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.target import unfused
from engine_build.target.reference import Reference
from engine_build.target.unfused import CPU, CUDA, UnfusedSession, graph_file, put_weights_first
from runtime.backends.protocol import Array
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, load_package
from tests.engine_build.target.execution import executed, name_nodes
from tests.places import ENGINES

DENOISER = "denoiser"


@pytest.fixture(scope="module")
def demo() -> ModelPackage:
    """Its weights are in fp16."""
    return load_package(ENGINES, "demo")


@pytest.fixture(scope="module")
def inputs(demo: ModelPackage) -> Mapping[str, Array]:
    """Of a call of its denoiser."""
    return Reference(demo, [(64, 64)]).calls[DENOISER][0].inputs


def widened(model: ir.Model) -> dict[str, int]:
    """The nodes that make fp32 of a weight, with the bytes that they make."""
    made = {}
    for node in model.graph:
        value = node.inputs[0] if node.op_type == "Cast" else None
        while value is not None and (producer := value.producer()) is not None:
            value = producer.inputs[0] if producer.op_type == "Transpose" else None
        if value is not None and value.is_initializer():
            assert node.name is not None
            assert value.shape is not None
            made[node.name] = 4 * int(np.prod(value.shape.numpy()))
    return made


def most_alive(model: ir.Model, order: list[str], sizes: Mapping[str, int]) -> int:
    """The most bytes of widened weights that are between their node and their last reader."""
    place = {name: at for at, name in enumerate(order)}
    alive = [0] * len(order)
    for node in model.graph:
        if node.name in sizes:
            readers = [place[str(use.node.name)] for use in node.outputs[0].uses()]
            for at in range(place[node.name], max(readers) + 1):
                alive[at] += sizes[node.name]
    return max(alive)


def test_every_weight_is_widened_in_the_call_and_where_it_is_used(
    demo: ModelPackage,
    inputs: Mapping[str, Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ir.load(graph_file(demo, DENOISER))
    name_nodes(model)
    order = executed(model, demo.path, inputs, tmp_path, monkeypatch)
    sizes = widened(model)
    assert len(sizes) == 500
    # What is computed beforehand is not run.
    assert sizes.keys() <= set(order)
    # A kernel and its bias; of all that there are, a small part.
    assert most_alive(model, order, sizes) <= 1.1 * max(sizes.values()) < sum(sizes.values()) / 10


def test_nothing_of_the_graph_is_optimised(demo: ModelPackage, tmp_path: Path) -> None:
    """Held to the graph as ONNX Runtime writes it when it has opened it."""
    model = ir.load(graph_file(demo, DENOISER))
    before = [node.op_type for node in model.graph]
    weights = {name: value.dtype for name, value in model.graph.initializers.items()}
    put_weights_first(model)
    options = unfused.session_options(demo.path)
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=[CPU.provider]
    )
    opened = ir.load(tmp_path / "opened.onnx")
    assert sorted(node.op_type for node in opened.graph) == sorted(before)
    assert {name: each.dtype for name, each in opened.graph.initializers.items()} == weights


def test_nodes_that_depend_on_weights_alone_stand_first(demo: ModelPackage) -> None:
    model = ir.load(graph_file(demo, DENOISER))
    put_weights_first(model)
    alone = [
        all(value is None or value.is_initializer() for value in node.inputs)
        for node in model.graph
        if node.op_type in {"Cast", "Conv", "MatMul", "Gemm"}
    ]
    assert alone.index(False) >= 300
    assert not any(
        value is not None and value.is_initializer() and node.op_type == "Cast"
        for node in list(model.graph)[1000:]
        for value in node.inputs
    )


def test_a_provider_that_was_not_taken_is_an_error_that_names_the_remedy(
    demo: ModelPackage,
) -> None:
    assert CUDA.provider not in onnxruntime.get_available_providers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX Runtime's own, that it goes on without.
        with pytest.raises(BackendError, match=r"took CPU.*, asked for CUDA.*; install .*cudnn"):
            UnfusedSession.of_role(demo, DENOISER, CUDA)


def test_a_graph_that_cannot_be_opened_or_run_is_named(demo: ModelPackage) -> None:
    model = ir.load(graph_file(demo, "text_encoder"))
    with (
        closing(UnfusedSession("text_encoder", model, demo.path, CPU)) as session,
        pytest.raises(BackendError, match=r"^text_encoder: ONNX Runtime failed: "),
    ):
        session.run({})
    next(iter(model.graph)).op_type = "Unheard"
    with pytest.raises(BackendError, match=r"^text_encoder: ONNX Runtime cannot open its graph wi"):
        UnfusedSession("text_encoder", model, demo.path, CPU)
