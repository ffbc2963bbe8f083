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
HEADROOM_FACTOR = 4.0
"""Another prompt's activations may be so many times as large as those that were seen."""

_OUTPUT = "largest_activation"

# Masks hold the lowest number of fp32, which `precision` brings into the range of 16 bits.
_MASK = 1e30


def fits_fp16(largest: float) -> bool:
    """True where fp16 holds HEADROOM_FACTOR times an activation of this magnitude."""
    return largest * HEADROOM_FACTOR <= LARGEST_FP16


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
                f"and fp16 holds {LARGEST_FP16:.3g}, of which a {HEADROOM_FACTOR:g}th is kept for "
                "other prompts; leave it in bf16"
            )


def largest_activations(reference: Reference, role: str) -> Mapping[str, float]:
    """The largest magnitude of each value that fp16 would have to hold, over a role's calls.

    By the value's name in the package's graph; inf for a value with an infinity or a NaN in it.
    Raises BackendError.
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
    of the N values that 16 bits would have to hold, without masks; inf for a value with an infinity
    or a NaN in it. Returns the values' names.
    """
    graph = model.graph
    values = narrow_values(list(graph))
    numbers = [
        _constant(graph, f"{_OUTPUT}.{name}", np.array(number, np.float32))
        for name, number in (
            ("mask", _MASK),
            ("largest", np.finfo(np.float32).max),
            ("zero", 0),
            ("infinite", np.inf),
        )
    ]
    one = _constant(graph, f"{_OUTPUT}.one", np.array([1], np.int64))
    maxima = []
    # ONNX Runtime runs first what stands last (`unfused`): so each maximum comes right behind its
    # value, which need not be kept.
    for value in reversed(values):
        nodes = _maximum(value, *numbers)
        row = ir.node("Reshape", [nodes[-1].outputs[0], one])
        graph.extend([*nodes, row])
        maxima.append(row.outputs[0])
    found = ir.Value(
        name=_OUTPUT, shape=ir.Shape([len(maxima)]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    graph.append(ir.node("Concat", maxima, {"axis": 0}, outputs=[found]))
    graph.outputs.append(found)
    return tuple(str(value.name) for value in reversed(values))


def _maximum(
    value: ir.Value, mask: ir.Value, largest: ir.Value, zero: ir.Value, infinite: ir.Value
) -> list[ir.Node]:
    """Nodes of which the last makes the largest magnitude of a value, a scalar.

    Of magnitudes above `mask`, those up to `largest` count as `zero`, all else as `infinite`.
    """
    size = ir.node("Abs", [value])
    # Both comparisons are false for a NaN, which a maximum alone may lose.
    is_seen = ir.node("Less", [size.outputs[0], mask])
    seen = ir.node("Where", [is_seen.outputs[0], size.outputs[0], zero])
    is_finite = ir.node("LessOrEqual", [size.outputs[0], largest])
    beyond = ir.node("Where", [is_finite.outputs[0], zero, infinite])
    both = [ir.node("ReduceMax", [each.outputs[0]], {"keepdims": 0}) for each in (seen, beyond)]
    maximum = ir.node("Max", [each.outputs[0] for each in both])
    return [size, is_seen, seen, is_finite, beyond, *both, maximum]


def _constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
