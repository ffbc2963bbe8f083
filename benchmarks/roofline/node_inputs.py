"""A node with the facts of its inputs, as rules for shapes read them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from benchmarks.roofline.value_facts import Shape, ValueFacts


@dataclass(frozen=True, slots=True)
class NodeInputs:
    """A node and its inputs; None for an absent one. Methods raise ValueError for unknowns."""

    node: ir.Node
    inputs: Sequence[ValueFacts | None]

    def has(self, index: int) -> bool:
        """True where an input is there."""
        return self._at(index) is not None

    def shape(self, index: int) -> Shape:
        """Shape of an input that must be there."""
        value = self._at(index)
        if value is None:
            raise ValueError(f"input {index} is missing")
        return value.shape

    def numbers(self, index: int) -> list[int] | None:
        """Whole numbers of an input; None where the input is absent."""
        if self._at(index) is None:
            return None
        return [int(number) for number in self.needed_data(index).reshape(-1)]

    def needed_numbers(self, index: int) -> list[int]:
        """Whole numbers of an input that must be there."""
        return [int(number) for number in self.needed_data(index).reshape(-1)]

    def needed_data(self, index: int) -> np.ndarray:
        """Numbers of an input that must be there."""
        value = self._at(index)
        if value is None or value.data is None:
            raise ValueError(f"the numbers of input {index} are unknown")
        return value.data

    def integer(self, name: str, default: int) -> int:
        """An attribute."""
        found = self.node.attributes.get_int(name, default)
        return default if found is None else found

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """An attribute of several numbers."""
        found = self.node.attributes.get_ints(name)
        return list(default if found is None else found)

    def _at(self, index: int) -> ValueFacts | None:
        return self.inputs[index] if index < len(self.inputs) else None
