"""Values for a network's initializers: a tensor, or the package's own plus low-rank changes.

Plain LoRAs change a weight by a product of two small matrices. A backend that keeps weights on a
device gets the two matrices as they are stored, about a hundredth of the bytes, and multiplies them
there; other backends get the finished tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from runtime.package.tensors import Tensor, stored


@dataclass(frozen=True, slots=True)
class Product:
    """`scale * up @ down`, in fp32, of factors of one dtype, mapped from a pack's file."""

    up: Tensor
    """`[outputs, rank]`"""
    down: Tensor
    """`[rank, inputs]`; of a convolution, `inputs` is `in * kh * kw`, those of its whole kernel."""
    scale: float
    """The pack's scale, multiplied by the weight of the request."""

    @property
    def shape(self) -> tuple[int, int]:
        """The outputs and inputs of the product."""
        return self.up.values.shape[0], self.down.values.shape[1]

    @property
    def size_bytes(self) -> int:
        """The bytes of the two factors."""
        return self.up.size_bytes + self.down.size_bytes


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """`base` plus the sum of products, in fp32, rounded once to the dtype that `base` is stored in.

    Without products this is the package's own weight.
    """

    base: Tensor
    """The package's own weight, mapped from its file: to read it is most of an update's cost."""
    products: tuple[Product, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of all factors."""
        return sum(product.size_bytes for product in self.products)

    def merged(self) -> Tensor:
        """The finished tensor, in the dtype of `base`."""
        if not self.products:
            return self.base
        ups = [each.up.fp32() * np.float32(each.scale) for each in self.products]
        downs = [each.down.fp32() for each in self.products]
        base = self.base.fp32()
        values = base + (np.concatenate(ups, axis=1) @ np.concatenate(downs)).reshape(base.shape)
        return Tensor(self.base.dtype, stored(values, self.base.dtype))


Weight: TypeAlias = Tensor | LowRankUpdate

Weights: TypeAlias = Mapping[str, Weight]
"""Values of initializers by name; all others hold the package's own."""


def base_of(weight: Weight) -> Tensor:
    """The tensor with a weight's dtype and shape: the `base` of an update, or the weight itself."""
    return weight.base if isinstance(weight, LowRankUpdate) else weight


def merged(weight: Weight) -> Tensor:
    """The finished tensor of a weight in either form."""
    return weight.merged() if isinstance(weight, LowRankUpdate) else weight
