"""The largest activations while a real picture is made, and whether fp16 can hold them.

Flux, Chroma, Z-Image, T5 and Qwen were trained in bf16, whose range is fp32's. The weights of a
checkpoint decide whether its activations stay within fp16's range, so each checkpoint is run.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from engine_build.target.precision import narrow_values
from engine_build.target.reference import Reference
from engine_build.target.targets import Wanted
from engine_build.target.unfused import UnfusedSession, graph_file
from runtime.errors import BuildError

LARGEST_FP16 = 65504.0
HEADROOM = 4.0
"""Another prompt's activations may be so many times as large as those that were seen."""

_OUTPUT = "largest_activation"

# Masks hold the lowest number of fp32, which `precision` brings into the range of 16 bits.
_MASK = 1e30


def fits_fp16(largest: float) -> bool:
    """True where fp16 holds an activation of this magnitude, with HEADROOM; False for NaN."""
    return largest * HEADROOM <= LARGEST_FP16


def check_range(reference: Reference, wanted: Wanted) -> None:
    """Refuse fp16 where a network that is usually in bf16 comes near the end of fp16's range.

    Runs each such network once more on the reference's pictures. Raises BuildError.
    """
    roles = reference.package.manifest.roles
    asked = [role for role, record in roles.items() if record.precision == "bf16"]
    if wanted.precision != "fp16":
        return
    for role in asked:
        largest = max(largest_activations(reference, role).values())
        if not fits_fp16(largest):
            raise BuildError(
                f"--precision fp16: activations of {role} reach {largest:.3g} on a real picture, "
                f"and fp16 holds {LARGEST_FP16:.3g}, of which a {HEADROOM:g}th is kept for other "
                "prompts; leave it in bf16"
            )


def largest_activations(reference: Reference, role: str) -> Mapping[str, float]:
    """The largest magnitude of each value that fp16 would have to hold, over a role's calls.

    By the value's name in the package's graph. Raises BackendError.
    """
    package = reference.package
    model = ir.load(graph_file(package, role))
    names = add_maxima(model)
    folder = package.weights_folder(role)
    with closing(UnfusedSession(role, model, folder, reference.place)) as session:
        found = [session.run(call.inputs)[_OUTPUT] for call in reference.calls[role]]
    return dict(zip(names, np.max(found, axis=0).tolist(), strict=True))


def add_maxima(model: ir.Model) -> tuple[str, ...]:
    """Add the output `largest_activation [N]` to a graph, in place: the largest magnitude of each
    of the N values that 16 bits would have to hold, without masks. Returns the values' names.
    """
    graph = model.graph
    values = narrow_values(list(graph))
    one = _constant(graph, f"{_OUTPUT}.one", np.array([1], np.int64))
    mask = _constant(graph, f"{_OUTPUT}.mask", np.array(_MASK, np.float32))
    zero = _constant(graph, f"{_OUTPUT}.zero", np.array(0, np.float32))
    maxima = []
    # ONNX Runtime runs first what stands last (`unfused`): so each maximum comes right behind its
    # value, which need not be kept.
    for value in reversed(values):
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
    return tuple(str(value.name) for value in reversed(values))


def _constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
