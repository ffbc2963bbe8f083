"""Initializers become inputs with a default, in every dtype that weights have."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine_build.package.weight_inputs import let_weights_be_inputs
from runtime.backends.onnxruntime.cpu import PROVIDER
from runtime.backends.onnxruntime.elements import ELEMENT_TYPES
from runtime.package.manifest import Parameter

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def model(weights: dict[str, np.ndarray]) -> ir.Model:
    """x `[batch, 200]` times the first matrix, plus x times the second."""
    nodes, products = [], []
    for name in weights:
        nodes.append(helper.make_node("Cast", [name], [f"{name}.fp32"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("MatMul", ["x", f"{name}.fp32"], [f"{name}.product"]))
        products.append(f"{name}.product")
    nodes.append(helper.make_node("Sum", products, ["y"]))
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 200])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return ir.from_proto(made)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_default_holds_until_it_is_overridden(dtype: str) -> None:
    chance = np.random.default_rng(0)
    own = {
        name: chance.standard_normal((200, 3)).astype(DTYPES[dtype]) for name in ("first", "second")
    }
    extended = model(own)
    let_weights_be_inputs(extended, [Parameter(name, (200, 3), dtype) for name in own])
    content = ir.to_proto(extended).SerializeToString()
    onnx.checker.check_model(onnx.load_model_from_string(content))
    session = onnxruntime.InferenceSession(content, providers=[PROVIDER])
    x = chance.standard_normal((2, 200)).astype(np.float32)

    def expected(weights: dict[str, np.ndarray]) -> np.ndarray:
        return sum(x @ values.astype(np.float32) for values in weights.values())

    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected(own), atol=1e-4)
    other = (own["first"] * 2).astype(DTYPES[dtype])
    value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(other, ELEMENT_TYPES[dtype])
    found = session.run(None, {"x": x, "first": value})[0]
    np.testing.assert_allclose(found, expected({**own, "first": other}), atol=1e-4)
