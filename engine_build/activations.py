"""How large activations become while a real picture is made: whether fp16 can hold them.

Flux, Chroma, Z-Image, T5 and Qwen were trained in bf16, whose range is fp32's. Whether a checkpoint
of theirs stays within fp16's is a question of its weights, so it is asked of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from engine_build.capture import Call, captured_calls
from engine_build.precision import narrow_nodes
from engine_build.targets import Wanted
from runtime.backends.onnxruntime.cpu import open_session
from runtime.errors import BuildError
from runtime.manifest import ModelPackage

LARGEST_FP16 = 65504.0
HEADROOM = 4.0
"""Another prompt's activations may be so many times as large as those that were seen."""

_OUTPUT = "largest_activation"

# Masks hold the lowest number of fp32, which `precision` brings into the range of 16 bits.
_MASK = 1e30


def check_range(engines: Path, package: ModelPackage, wanted: Wanted) -> None:
    """Refuse fp16 where a network that is usually in bf16 comes near the end of its range.

    Draws a picture on the CPU, and runs each such network once more. Raises BuildError.
    """
    roles = package.manifest.roles
    asked = [role for role, record in roles.items() if record.precision == "bf16"]
    if wanted.precision != "fp16" or not asked:
        return
    calls = captured_calls(engines, package.manifest.name, wanted.served.sizes[:1])
    for role in asked:
        record = roles[role]
        folder = Path(record.external_folder) if record.external_folder else package.path
        largest = largest_activation(package.file(record.graph), folder, calls[role])
        if not largest * HEADROOM <= LARGEST_FP16:
            raise BuildError(
                f"--precision fp16: activations of {role} reach {largest:.3g} on a real picture, "
                f"and fp16 holds {LARGEST_FP16:.3g}, of which a {HEADROOM:g}th is kept for other "
                "prompts; leave it in bf16"
            )


def largest_activation(graph: Path, weights_folder: Path, calls: Sequence[Call]) -> float:
    """The largest magnitude of what fp16 would have to hold, over these calls."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = ir.to_proto(_with_maximum(ir.load(graph))).SerializeToString()
    session = open_session(model, options, weights_folder)
    return max(float(np.max(session.run([_OUTPUT], dict(call.inputs))[0])) for call in calls)


def _with_maximum(model: ir.Model) -> ir.Model:
    graph = model.graph
    values = [
        output
        for node in narrow_nodes(list(graph))
        for output in node.outputs
        if output.dtype == ir.DataType.FLOAT
    ]
    one = _constant(graph, f"{_OUTPUT}.one", np.array([1], np.int64))
    mask = _constant(graph, f"{_OUTPUT}.mask", np.array(_MASK, np.float32))
    zero = _constant(graph, f"{_OUTPUT}.zero", np.array(0, np.float32))
    maxima = []
    for value in values:
        size = ir.node("Abs", [value])
        seen = ir.node("Less", [size.outputs[0], mask])
        kept = ir.node("Where", [seen.outputs[0], size.outputs[0], zero])
        largest = ir.node("ReduceMax", [kept.outputs[0]], {"keepdims": 0})
        row = ir.node("Reshape", [largest.outputs[0], one])
        graph.extend([size, seen, kept, largest, row])
        maxima.append(row.outputs[0])
    found = ir.Value(
        name=_OUTPUT, shape=ir.Shape([len(maxima)]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    graph.append(ir.node("Concat", maxima, {"axis": 0}, outputs=[found]))
    graph.outputs.append(found)
    return model


def _constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
