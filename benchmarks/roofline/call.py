"""A node that runs with the facts of its inputs and outputs, its launches, and kinds of kernels."""

from dataclasses import dataclass

import onnx_ir as ir

from benchmarks.roofline.launches import Launch
from benchmarks.roofline.value_facts import ValueFacts
from runtime.errors import BuildError

PRODUCT = "matrix product"
ATTENTION = "attention"
CONVOLUTION = "convolution"
BIAS = "Add of a bias"
SPLIT = "Split"
GELU = "Gelu"
MUL = "Mul"
LAYER_NORM = "layer norm"
CAST = "Cast"
ADD = "Add"
CONVOLUTION_BIAS = "bias of a convolution"
GROUP_NORM = "group norm"
MEMSET = "Memset"
COPY = "copy"
GATED_GELU = "BiasSplitGelu"
SKIP_NORM = "SkipLayerNormalization"
BIAS_ADD = "BiasAdd"
GATED_SUM_NORM = "GatedSumNorm"
ROTATED_HEADS = "RotatedHeads"
GATED_ACTIVATION = "GatedActivation"
OTHER = "other"

NECESSARY = (PRODUCT, ATTENTION, CONVOLUTION)
"""Kinds that no fusion takes away."""


@dataclass(frozen=True, slots=True)
class NodeCall:
    """A node with the facts of its inputs and outputs; None for those that are absent or unread."""

    node: ir.Node
    operator: str
    inputs: tuple[ValueFacts | None, ...]
    constant: tuple[bool, ...]
    outputs: tuple[ValueFacts | None, ...]

    def given(self, index: int) -> ValueFacts:
        """An input that must be there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise BuildError(f"{self.operator} ({self.node.name}): input {index} is missing")
        return value

    @property
    def result(self) -> ValueFacts:
        """The first output that is there."""
        return next(value for value in self.outputs if value is not None)

    @property
    def bytes(self) -> int:
        """Bytes of inputs and outputs that are not small vectors."""
        return sum(each.bytes for each in (*self.inputs, *self.outputs) if each is not None)


@dataclass(frozen=True, slots=True)
class Cost:
    """Launches of a node, and the launches if a kernel that was never measured disappoints."""

    launches: tuple[Launch, ...]
    worst: tuple[Launch, ...] = ()

    @property
    def at_worst(self) -> tuple[Launch, ...]:
        """The pessimistic launches, where there are such."""
        return self.worst or self.launches
