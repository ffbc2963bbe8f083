"""Small graphs in ONNX's textual form, and what ONNX Runtime makes of them on the CPU."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime

from engine_build.target.onnxruntime_cuda.definitions import define_operators


def rms_norm(source: str, weight: str, epsilon: float = 0.01) -> str:
    """Nodes, in the textual form, that make `SOURCE_normed` as PyTorch's exporter writes a norm."""
    return f"""
        {source}_two = Constant <value_float = 2.0> ()
        {source}_least = Constant <value_float = {epsilon}> ()
        {source}_last = Constant <value_ints = [-1]> ()
        {source}_squared = Pow ({source}, {source}_two)
        {source}_mean = ReduceMean <keepdims = 1> ({source}_squared, {source}_last)
        {source}_steady = Add ({source}_mean, {source}_least)
        {source}_root = Sqrt ({source}_steady)
        {source}_inverse = Reciprocal ({source}_root)
        {source}_scaled = Mul ({source}, {source}_inverse)
        {source}_normed = Mul ({weight}, {source}_scaled)
    """


def graph(text: str, **constants: np.ndarray) -> ir.Model:
    """The model, with `constants` as initializers in place of the inputs of these names."""
    header = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>'
    model = ir.from_proto(onnx.parser.parse_model(header + text))
    for name, numbers in constants.items():
        value = next(each for each in model.graph.inputs if each.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(numbers, name=name)
        model.graph.register_initializer(value)
    return model


def run(model: ir.Model, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs, what only CUDA has run by its definition."""
    copy = ir.from_proto(ir.to_proto(model))
    define_operators(copy)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(ir.to_proto(copy).SerializeToString(), options)
    names = [each.name for each in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]
