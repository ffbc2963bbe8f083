"""The range of fp16 against a network's own activations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.target import activations
from engine_build.target.activations import add_maxima, check_range, largest_activations
from engine_build.target.profiles import Tuning
from engine_build.target.reference import Reference
from engine_build.target.targets import Wanted
from engine_build.target.unfused import graph_file
from runtime.errors import BuildError
from runtime.package.manifest import load_package
from tests.engine_build.target.execution import executed, name_nodes
from tests.places import ENGINES

WANTED = Wanted("tensorrt-rtx", "sm_89", Tuning(((64, 96),), 1), precision="fp16")


def test_the_largest_activation_is_at_least_what_a_layer_is_known_to_answer() -> None:
    """The VAE's last convolution is one that 16 bits could hold; its picture goes from -1 to 1."""
    reference = Reference(load_package(ENGINES, "demo"), [(64, 64)])
    assert 1 < largest_activations(reference, "vae_decoder")["conv2d_28"] < 1e4


def test_a_network_that_comes_near_the_end_of_fp16_is_refused(
    tiny_flux_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Reference(load_package(tiny_flux_package, "tiny_flux"), WANTED.served.sizes)
    check_range(reference, WANTED)
    # As if fp16 ended earlier: small networks of random weights stay small.
    monkeypatch.setattr(activations, "LARGEST_FP16", 1.0)
    with pytest.raises(BuildError, match=r"--precision fp16: activations of .* reach .* bf16"):
        check_range(reference, WANTED)


def test_only_fp16_in_place_of_bf16_is_a_question() -> None:
    """Nothing is drawn: the package's weights are not even there."""
    package = replace(load_package(ENGINES, "demo"), path=Path("nowhere"))
    check_range(Reference(package, [(64, 64)]), WANTED)
    check_range(Reference(package, [(64, 64)]), replace(WANTED, precision="bf16"))


def test_a_mask_is_no_activation_and_an_infinity_or_a_nan_is_beyond_all() -> None:
    rows = np.array([[1, -2], [0, np.finfo(np.float32).min], [np.inf, 0], [3, np.nan], [np.nan, 3]])
    value = ir.val("rows", ir.DataType.FLOAT, [2])
    weight = ir.tensor(np.eye(2, dtype=np.float32), name="weight")
    given = ir.Value(name="weight", shape=weight.shape, type=value.type, const_value=weight)
    product = ir.node("MatMul", [value, given])
    product.outputs[0].shape, product.outputs[0].type = value.shape, value.type
    graph = ir.Graph(
        [value], product.outputs, nodes=[product], initializers=[given], opset_imports={"": 20}
    )
    model = ir.Model(graph, ir_version=10)
    names = add_maxima(model)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    at = names.index("rows")
    found = [session.run(None, {"rows": row.astype(np.float32)})[-1][at] for row in rows]
    assert found == [2, 0, np.inf, np.inf, np.inf]


def test_a_maximum_is_taken_right_behind_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no activation is kept for it until the end."""
    package = load_package(ENGINES, "demo")
    inputs = Reference(package, [(64, 64)]).calls["denoiser"][0].inputs
    model = ir.load(graph_file(package, "denoiser"))
    add_maxima(model)
    name_nodes(model)
    order = executed(model, package.path, inputs, tmp_path, monkeypatch)
    at = {name: position for position, name in enumerate(order)}
    pairs = [
        (producer.name, node.name)
        for node in model.graph
        if node.op_type == "Abs" and (producer := node.inputs[0].producer()) is not None
    ]
    assert len(pairs) > 500
    # Other readers of the value, and other outputs of its node, come in between, and no layer.
    assert max(at[str(largest)] - at[str(value)] for value, largest in pairs) < 20
