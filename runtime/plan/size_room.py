"""The sizes of pictures that the memory for drawing holds."""

from dataclasses import dataclass

from runtime.package.manifest import Limits, Manifest
from runtime.plan.call_room import CallRoom

_RATIOS = (1, 2, 4)
"""The ratios of sides of the pictures for which ranges are stated."""

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True, slots=True)
class SizeRoom:
    """The memory that drawing may take on this machine, and what pictures take of it."""

    memory: int
    """Bytes."""
    needs: CallRoom
    scale: int
    """Pixels of a latent, a side."""
    evaluations: int
    """The most of one picture in a call."""

    def wanted(self, width: int, height: int) -> int:
        """The bytes that one picture of this size in pixels takes, by the estimate."""
        return self.needs.wanted(height // self.scale, width // self.scale, self.evaluations)

    def corners(self, limits: Limits) -> list[Size]:
        """The largest pictures that fit, of a few ratios: all that are no wider and no higher than
        one of these fit too. Empty where every size of the model fits. The smallest counts as one
        that fits.
        """
        if self.wanted(limits.max_size, limits.max_size) <= self.memory:
            return []
        found = dict.fromkeys(self._largest(ratio, limits) for ratio in _RATIOS)
        return [*found, *((high, wide) for wide, high in found if wide != high)]

    def refusal(self, width: int, height: int) -> str:
        """The words that refuse a size, up to those that fit."""
        return (
            f"{width}x{height} pixels take some {_gb(self.wanted(width, height))} GB of memory to "
            f"draw, and drawing may take {_gb(self.memory)} GB on this machine"
        )

    def _largest(self, ratio: int, limits: Limits) -> Size:
        step, least = limits.multiple_of, limits.min_size
        high = least
        while self._fits(min(ratio * (high + step), limits.max_size), high + step):
            high += step
        return min(ratio * high, limits.max_size), high

    def _fits(self, width: int, height: int) -> bool:
        return height <= width and self.wanted(width, height) <= self.memory


def size_room(memory: int, needs: CallRoom, manifest: Manifest) -> SizeRoom:
    """A model's. `memory` is in bytes."""
    limits = manifest.limits
    evaluations = max(1, limits.max_evaluations // limits.max_batch)
    return SizeRoom(memory, needs, manifest.latents.scale_factor, evaluations)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}"
