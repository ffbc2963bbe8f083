"""Holds a compiled graph to what ONNX Runtime's CUDA provider can run in a CUDA graph's capture.

A capture records what is sent to the device, so that nothing in it may wait for the device, or
compute on the host with what the device made. What the host computes from shapes alone is constant
at one shape, and does no harm. What depends on the machine is not seen here: memory that a run
wants for the first time, and the plans that cuDNN makes at a new shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.host import Placement
from engine_build.target.onnxruntime_cuda.kernels import (
    LARGEST_CONCAT,
    WAITING,
    has_kernel,
    is_known,
    keyed_by,
)

_SUBGRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that a capture cannot hold."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


def uncapturable(model: ir.Model) -> tuple[Refusal, ...]:
    """The nodes of a typed graph that no capture can hold, in the graph's order, once for each
    reason; then the graph's outputs that the host computes.

    Every value of the graph must have its dtype.
    """
    placement = Placement(model.graph)
    found = [
        Refusal(node.name or str(node.outputs[0].name), reason)
        for node in model.graph
        for reason in _reasons(node, placement)
    ]
    answers = [value for value in model.graph.outputs if value in placement.on_host]
    found += [Refusal(str(value.name), "the host computes this output") for value in answers]
    return tuple(found)


def _reasons(node: ir.Node, placement: Placement) -> Iterator[str]:
    if any(attribute.type in _SUBGRAPHS for attribute in node.attributes.values()):
        yield f"{node.op_type} lets the host decide what runs"
        return
    if not is_known(node):
        yield f"{node.op_type} is not known to have a CUDA kernel that can be captured"
        return
    if not has_kernel(node) and not placement.has_host_alone(node):
        yield f"{node.op_type} has no CUDA kernel for {_dtype(node)}"
    if node.op_type in WAITING:
        yield f"{node.op_type} waits for the device, whose answer decides a shape"
    too_many = node.op_type == "Concat" and len(node.inputs) > LARGEST_CONCAT
    if too_many and not placement.runs_on_host(node):
        yield f"Concat of {len(node.inputs)} inputs, at most {LARGEST_CONCAT} can be captured"
    for _, value in placement.copied_to_device(node):
        yield f"{node.op_type} reads {value.name} on the device, and the host computes it"
    for value in placement.copied_to_host(node):
        yield f"{node.op_type} reads {value.name} on the host, and the device has it"


def _dtype(node: ir.Node) -> str:
    dtype = keyed_by(node)
    return "an unknown dtype" if dtype is None else dtype.name.lower()
