"""Values for a network's initializers: a tensor, or the package's own plus a low-rank change.

Plain LoRAs change a weight by a product of two small matrices. Who keeps weights on a device gets
those, some hundredth of the bytes, and multiplies there; others are given the finished tensor.
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
    """The package's own, mapped from its file: reading it is what an update costs most."""
    up: NDArray[np.float32]
    """`[outputs, rank]`, the weights of the request and of the pack multiplied in."""
    down: NDArray[np.float32]
    """`[rank, inputs]`; a convolution's inputs are those of its whole kernel."""

    @property
    def size_bytes(self) -> int:
        """The memory that it takes beside the package's own weights."""
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
    """A tensor of its dtype and shape, and for an update what it changes."""
    return weight.base if isinstance(weight, LowRankUpdate) else weight


def merged(weight: Weight) -> Tensor:
    """The tensor itself, whichever form it comes in."""
    return weight.merged() if isinstance(weight, LowRankUpdate) else weight
