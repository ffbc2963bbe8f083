"""The nodes of a graph that run on the device at each call, once ONNX Runtime has opened the graph.

A session folds what depends on constants alone, computes shapes on the host, merges equal nodes,
and drops nodes that change nothing. Modelled after `onnxruntime/core/optimizer` of 1.31: constant
folding, elimination of identities, no-ops and Casts, of equal subexpressions, of Casts and
Transposes that only a Shape reads, of Transposes that undo each other, and `QuickGelu`.

Not modelled, since its conditions are not met by our graphs: a bias behind a product of three axes
becomes no part of a Gemm where an extent is dynamic (matmul_add_fusion.cc), and an Add before
ONNX's own Gelu no BiasGelu (bias_gelu_fusion.cc).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from benchmarks.roofline.value_facts import ValueFacts
from engine_build.target.onnxruntime_cuda.host import Placement

FREE = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that launch nothing: their output is their input's memory."""

_NEUTRAL = {"Add": 0, "Div": 1, "Mul": 1, "Sub": 0}
"""Operators that change nothing beside a constant of this number."""

Inputs = tuple[ir.Value | None, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A node that runs: its operator once fused, and its inputs once nodes before it are gone."""

    node: ir.Node
    operator: str
    inputs: Inputs
    constant: tuple[bool, ...]
    """True for each input that is a constant, a weight among them."""


def running_nodes(model: ir.Model, known: Mapping[ir.Value, ValueFacts]) -> list[Running]:
    """Nodes that run on the device at each call, in the graph's order."""
    session = _Session(model.graph, known)
    for node in model.graph:
        session.add(node)
    outputs = [session.standing(value) for value in model.graph.outputs]
    return _alive(_gated(session.found, outputs), outputs)


class _Session:
    """The nodes left of a graph. `_standing` has the value that stands for each value that is gone,
    `_moved` the source and the order of axes behind each Transpose."""

    def __init__(self, graph: ir.Graph, known: Mapping[ir.Value, ValueFacts]) -> None:
        self.found: list[Running] = []
        self._known = known
        self._placement = Placement(graph)
        self._constants = set(graph.initializers.values()) - set(graph.inputs)
        self._standing: dict[ir.Value, ir.Value] = {}
        self._moved: dict[ir.Value, tuple[ir.Value, tuple[int, ...]]] = {}
        self._made: dict[object, ir.Node] = {}

    def standing(self, value: ir.Value) -> ir.Value:
        """The value that is computed where the graph names `value`."""
        return self._standing.get(value, value)

    def add(self, node: ir.Node) -> None:
        """Keep a node, or note what stands for its outputs."""
        inputs = tuple(None if value is None else self.standing(value) for value in node.inputs)
        given = [value for value in inputs if value is not None]
        if all(value in self._constants for value in given) and node.op_type != "Shape":
            self._constants.update(node.outputs)
            return
        if self._placement.runs_on_host(node):
            return
        same = self._unchanged(node, inputs)
        if same is not None:
            self._standing[node.outputs[0]] = same
            return
        twin = self._made.setdefault(self._key(node, inputs), node)
        if twin is not node:
            self._standing.update(zip(node.outputs, twin.outputs, strict=True))
            return
        constant = tuple(value in self._constants for value in inputs)
        self.found.append(Running(node, node.op_type, inputs, constant))

    def _unchanged(self, node: ir.Node, inputs: Inputs) -> ir.Value | None:
        """The value that a node's output equals; None where the node computes something."""
        if not inputs or inputs[0] is None:
            return None
        first, output = inputs[0], self._known[node.outputs[0]]
        if node.op_type == "Cast" and self._known[first].dtype == output.dtype:
            return first
        if node.op_type == "Transpose":
            return self._moved_back(node, first)
        if node.op_type in _NEUTRAL and inputs[1] is not None:
            for value, other in ((first, inputs[1]), (inputs[1], first)):
                swapped = value is not first
                if swapped and node.op_type in {"Div", "Sub"}:
                    continue
                if self._is_all(other, _NEUTRAL[node.op_type]):
                    known = self._known[value]
                    return value if known.shape == output.shape else None
        return None

    def _moved_back(self, node: ir.Node, first: ir.Value) -> ir.Value | None:
        order = tuple(node.attributes["perm"].as_ints())
        source, before = self._moved.get(first, (first, tuple(range(len(order)))))
        whole = tuple(before[axis] for axis in order)
        if whole == tuple(range(len(order))):
            return source
        self._moved[node.outputs[0]] = (source, whole)
        return None

    def _is_all(self, value: ir.Value, number: int) -> bool:
        data = self._known[value].data
        return value in self._constants and data is not None and bool(np.all(data == number))

    def _key(self, node: ir.Node, inputs: Inputs) -> object:
        """Key that nodes share which compute the same."""
        attributes = tuple(
            sorted((name, str(each.value)) for name, each in node.attributes.items())
        )
        return (node.domain, node.op_type, attributes, tuple(map(self._content, inputs)))

    def _content(self, value: ir.Value | None) -> object:
        """A value, or the numbers of a small constant: equal constants are shared."""
        if value is None or value not in self._constants:
            return value
        known = self._known[value]
        return value if known.data is None else (known.shape, known.dtype, known.data.tobytes())


def _gated(found: Sequence[Running], outputs: Sequence[ir.Value]) -> list[Running]:
    """The nodes with `x * sigmoid(x)` and `x * sigmoid(a x)` as one QuickGelu each."""
    makers = {each.node.outputs[0]: each for each in found}
    reads = Counter(value for each in found for value in each.inputs)
    reads.update(outputs)
    result = []
    for each in found:
        source = _gate(each, makers, reads)
        result.append(each if source is None else replace(
            each, operator="QuickGelu", inputs=(source,), constant=(False,)
        ))  # fmt: skip
    return result


def _gate(
    product: Running, makers: Mapping[ir.Value, Running], reads: Mapping[ir.Value | None, int]
) -> ir.Value | None:
    """The `x` of a product that is QuickGelu of x."""
    if product.operator != "Mul":
        return None
    for source, gate in (product.inputs, product.inputs[::-1]):
        if source is None or gate is None or gate not in makers or reads[gate] != 1:
            continue
        sigmoid = makers[gate]
        if sigmoid.operator != "Sigmoid":
            continue
        inner = sigmoid.inputs[0]
        scaled = makers.get(inner) if inner is not None else None
        if inner is source or (
            scaled is not None
            and scaled.operator == "Mul"
            and source in scaled.inputs
            and any(scaled.constant)
        ):
            return source
    return None


def _alive(found: Sequence[Running], outputs: Sequence[ir.Value]) -> list[Running]:
    """The nodes that outputs of the graph are computed from."""
    wanted = set(outputs)
    alive = []
    for each in reversed(found):
        if wanted.intersection(each.node.outputs):
            alive.append(each)
            wanted.update(value for value in each.inputs if value is not None)
    return alive[::-1]
