"""Facts of a value of a graph at concrete shapes of the graph's inputs."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ValueFacts:
    """Shape and dtype of a value, and its numbers where they are few and known."""

    shape: Shape
    dtype: ir.DataType
    data: np.ndarray | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.elements * self.size

    @property
    def size(self) -> int:
        """Size of an element in bytes, at least 1."""
        return max(1, int(self.dtype.itemsize))
