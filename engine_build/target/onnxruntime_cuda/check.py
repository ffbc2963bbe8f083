"""Compares a compiled graph with the package's own, on the CPU: no fusion may change its results.

This checks neither the CUDA provider nor its arithmetic in 16 bits, which takes a device. Operators
that the CPU provider has no kernels for are run as functions, from `definitions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import onnxruntime

from engine_build.target.capture import Call
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from engine_build.target.verify import check_engine
from runtime.backends.onnxruntime.cpu import open_session
from runtime.backends.protocol import Array
from runtime.errors import BuildError
from runtime.package.engine_record import EngineCheck
from runtime.package.manifest import ModelPackage, Precision

FP32_TOLERANCE = 1e-4
"""The tolerance of a graph in fp32, where only the order of sums differs."""


def check_compiled(
    package: ModelPackage,
    role: str,
    graphs: Sequence[Path],
    precision: Precision,
    calls: Sequence[Call],
) -> EngineCheck:
    """Measure, on the CPU, how far a role's compiled graphs are from the package's own answers in
    `calls`. The graphs run in the order given; each reads what those before it made, by name.

    A graph in bf16, which the CPU provider cannot compute in, is checked with fp32 in its place;
    its constants stay as they were rounded. Raises BuildError where ONNX Runtime cannot run it.
    """
    models = [ir.load(graph) for graph in graphs]
    for model in models:
        define_operators(model)
        if precision == "bf16":
            widen(model)
    run = _Runner(role, models, package.weights_folder(role)).run
    check = check_engine(calls, run, "fp16" if precision == "fp16" else "fp32")
    if precision == "fp32":
        return replace(check, tolerance=min(check.tolerance, FP32_TOLERANCE))
    return check


def widen(model: ir.Model) -> None:
    """Let a graph compute in fp32 instead of bf16, in place; weights stored in bf16 are cast where
    they are read.
    """
    narrow, wide = ir.DataType.BFLOAT16, ir.DataType.FLOAT
    for value in model.graph.inputs:
        if value.dtype == narrow and not value.is_initializer():
            value.dtype = wide
    for node in list(model.graph):
        for output in node.outputs:
            if output.dtype == narrow:
                output.dtype = wide
        if node.op_type == "Cast" and node.attributes["to"].as_int() == narrow:
            node.attributes["to"] = ir.AttrInt64("to", wide.value)
    for value in list(model.graph.initializers.values()):
        if value.dtype == narrow:
            output = ir.Value(
                name=f"{value.name}.wide", shape=value.shape, type=ir.TensorType(wide)
            )
            value.replace_all_uses_with(output)
            model.graph.insert_before(
                model.graph[0], ir.node("Cast", [value], {"to": wide.value}, outputs=[output])
            )


class _Runner:
    """The graphs of a role, open on the CPU."""

    def __init__(self, role: str, models: Sequence[ir.Model], folder: Path) -> None:
        self._role = role
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        contents = [ir.to_proto(model).SerializeToString() for model in models]
        try:
            self._sessions = [open_session(content, options, folder) for content in contents]
        except Exception as error:  # onnxruntime's own errors share no base but this
            raise BuildError(f"{role}: ONNX Runtime cannot open its graph: {error}") from error

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, the named outputs of the last graph out."""
        values, made = dict(inputs), dict[str, Array]()
        for session in self._sessions:
            read = {each.name: values[each.name] for each in session.get_inputs()}
            names = [output.name for output in session.get_outputs()]
            try:
                made = dict(zip(names, session.run(names, read), strict=True))
            except Exception as error:
                words = f"{self._role}: ONNX Runtime cannot run its graph: {error}"
                raise BuildError(words) from error
            values |= made
        return made
