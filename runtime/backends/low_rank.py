"""Values for a network's initializers: a tensor, or the package's own plus a low-rank change.

Plain LoRAs change a weight by a product of two small matrices. A backend that keeps weights on a
device gets the two matrices, about a hundredth of the bytes, and multiplies them there; other
backends get the finished tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.package.tensors import Tensor, stored


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """`base + up @ down`, in fp32, rounded once to the dtype that `base` is stored in."""

    base: Tensor
    """The package's own weight, mapped from its file: to read it is most of an update's cost."""
    up: NDArray[np.float32]
    """`[outputs, rank]`, multiplied by the pack's scale and the weight of the request."""
    down: NDArray[np.float32]
    """`[rank, inputs]`; of a convolution, `inputs` is `in * kh * kw`, those of its whole kernel."""

    @property
    def size_bytes(self) -> int:
        """The memory that the two factors take, beside the package's own weights."""
        return self.up.nbytes + self.down.nbytes

    def merged(self) -> Tensor:
        """The finished tensor, `base + up @ down` in the dtype of `base`."""
        base = self.base.fp32()
        values = base + (self.up @ self.down).reshape(base.shape)
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
