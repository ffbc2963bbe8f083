"""The noise of a seed: what PyTorch's CPU generator draws, without PyTorch.

`torch.randn` fills 16 or more numbers in blocks of 16 from 24-bit uniforms in single precision
(ATen, native/cpu/DistributionTemplates.h, normal_fill), and fewer of them one by one from 53-bit
uniforms in double precision, of which every second one is left over from the one before
(ATen/core/DistributionsHelper.h, normal_distribution). Both are the Box-Muller transform of a
Mersenne Twister's numbers. We agree with it to 5e-7, the last bits of its vectorised logarithm and
cosine; ours are rounded from double precision, so that they are the same on every machine.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.errors import RequestError

BLOCK = 16


class TorchGenerator:
    """Draws what `torch.Generator("cpu").manual_seed(seed)` draws, call after call."""

    def __init__(self, seed: int) -> None:
        """Seeds run from -2**63 to 2**64 - 1, as in torch, of which the low 32 bits count.

        Raises RequestError for a seed beyond.
        """
        if not -(2**63) <= seed < 2**64:
            raise RequestError(
                "/seed", f"{seed} is out of range; expected 0 to 18446744073709551615"
            )
        # Not the Generator of NumPy: only the legacy one is seeded as torch seeds its twister.
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)
        self._left_over: float | None = None

    def randn(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """Standard normal numbers of this shape."""
        size = math.prod(shape)
        if size >= BLOCK:
            return self._blocks(size).reshape(shape)
        return np.array([self._one() for _ in range(size)], dtype=np.float32).reshape(shape)

    def _blocks(self, size: int) -> NDArray[np.float32]:
        whole = size - size % BLOCK
        uniforms = self._uniforms(size)
        numbers = np.empty(size, dtype=np.float32)
        numbers[:whole] = _box_muller(uniforms[:whole])
        if whole < size:
            # The last 16 are drawn anew, over numbers that have been drawn already.
            numbers[-BLOCK:] = _box_muller(self._uniforms(BLOCK))
        return numbers

    def _uniforms(self, count: int) -> NDArray[np.float32]:
        return (self._raw(count) & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2**-24)

    def _raw(self, count: int) -> NDArray[np.uint32]:
        return self._twister.randint(0, 2**32, size=count, dtype=np.uint32)

    def _one(self) -> float:
        if self._left_over is not None:
            number, self._left_over = self._left_over, None
            return number
        angle, depth = (self._double() for _ in range(2))
        radius = math.sqrt(-2 * math.log1p(-depth))
        self._left_over = radius * math.sin(2 * math.pi * angle)
        return radius * math.cos(2 * math.pi * angle)

    def _double(self) -> float:
        high, low = self._raw(2).tolist()
        return float((high << 32 | low) & (2**53 - 1)) * 2.0**-53


def _box_muller(uniforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """In each block of 16, numbers i and i + 8 are the cosine and the sine of one pair."""
    blocks = uniforms.reshape(-1, 2, BLOCK // 2)
    radius = np.sqrt(-2 * np.log(1 - blocks[:, 0].astype(np.float64)))
    # torch rounds the angle to single precision, which is worth more than the last bit.
    angle = (np.float32(2 * math.pi) * blocks[:, 1]).astype(np.float64)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(-1).astype(np.float32)


class Draws:
    """The noise of one sample, in the order in which a diffusers pipeline with batch 1 draws it.

    The initial latents come first; then the draws that a step table refers to, of which each is
    kept until the last row that needs it. Rows must be asked for once each, in order.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int], draws: NDArray[np.float32]) -> None:
        """`shape` is the latents' `(C, h, w)`, `draws` a step table's `[N, D]`."""
        self._generator = TorchGenerator(seed)
        self._shape = (1, *shape)
        self._weights = draws
        self._drawn = 0
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._next_row = -1

    def initial(self) -> NDArray[np.float32]:
        """`[1, C, h, w]` of unit variance, before any row. Raises ValueError the second time."""
        if self._next_row != -1:
            raise ValueError("the initial noise has been drawn already")
        self._next_row = 0
        return self._generator.randn(self._shape)

    def noise(self, row: int) -> NDArray[np.float32] | None:
        """`[1, C, h, w]` of unit variance; None where the row needs none.

        Raises ValueError for any row but the next one, and before the initial noise.
        """
        if row != self._next_row or row >= len(self._weights):
            raise ValueError(f"noise of row {row} was asked for, expected row {self._next_row}")
        self._next_row += 1
        needed = np.flatnonzero(self._weights[row])
        if not needed.size:
            return None
        while self._drawn <= needed[-1]:
            self._kept[self._drawn] = self._generator.randn(self._shape)
            self._drawn += 1
        noise = np.zeros(self._shape, dtype=np.float32)
        for draw in needed.tolist():
            noise += self._weights[row, draw] * self._kept[draw]
        still_needed = set(np.flatnonzero(self._weights[row + 1 :].any(axis=0)))
        self._kept = {draw: kept for draw, kept in self._kept.items() if draw in still_needed}
        return noise
