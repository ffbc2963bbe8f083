"""Finds the profile of an engine that takes inputs of given shapes, or says why none does."""

from collections.abc import Mapping, Sequence

from runtime.errors import BackendError
from runtime.package.manifest import HEIGHT, WIDTH, InputRecord
from runtime.package.target import Profile, Range

Shape = tuple[int, ...]


class Profiles:
    """The profiles of one role's engine."""

    def __init__(
        self, role: str, inputs: Mapping[str, InputRecord], profiles: Sequence[Profile], scale: int
    ) -> None:
        """`scale` is the number of pixels per latent, which only messages use."""
        self._role = role
        self._inputs = inputs
        self._profiles = profiles
        self._scale = scale

    def largest(self, axis: str) -> int | None:
        """The largest extent that any profile takes of an axis; None where no profile has it."""
        extents = [profile[axis].largest for profile in self._profiles if axis in profile]
        return max(extents, default=None)

    def index(self, shapes: Mapping[str, Shape], remedy: str) -> int:
        """The narrowest profile that takes these shapes. Raises BackendError with the `remedy`."""
        axes = self._axes(shapes)
        fitting = [
            index
            for index, profile in enumerate(self._profiles)
            if all(
                profile[axis].smallest <= extent <= profile[axis].largest
                for axis, extent in axes.items()
            )
        ]
        if not fitting:
            asked = self.words(shapes)
            taken = " or ".join(self._described(profile) for profile in self._profiles)
            raise BackendError(f"{self._role}: no engine takes {asked}; it takes {taken}; {remedy}")
        return min(fitting, key=lambda index: _width(self._profiles[index]))

    def words(self, shapes: Mapping[str, Shape]) -> str:
        """The dynamic axes' extents, for people. Raises BackendError where a fixed axis differs."""
        axes = self._axes(shapes)
        return ", ".join(f"{axis} {self._text(axis, each)}" for axis, each in axes.items())

    def _axes(self, shapes: Mapping[str, Shape]) -> dict[str, int]:
        axes: dict[str, int] = {}
        for name, record in self._inputs.items():
            for axis, extent in zip(record.shape, shapes[name], strict=True):
                if isinstance(axis, str):
                    axes[axis] = extent
                elif axis != extent:
                    raise BackendError(f"{self._role}: {name} is {list(shapes[name])}")
        return axes

    def _described(self, profile: Profile) -> str:
        parts = []
        for axis, extent in sorted(profile.items()):
            ends = dict.fromkeys((extent.smallest, extent.largest))
            parts.append(f"{axis} {' to '.join(self._text(axis, end) for end in ends)}")
        return "(" + ", ".join(parts) + ")"

    def _text(self, axis: str, extent: int) -> str:
        if axis in (HEIGHT, WIDTH):
            return f"{extent * self._scale} pixels"
        return str(extent)


def _width(profile: Profile) -> int:
    """The product of the ranges' widths: a narrow profile is tuned better for each shape."""
    count = 1
    for extent in profile.values():
        count *= _extents(extent)
    return count


def _extents(extent: Range) -> int:
    return extent.largest - extent.smallest + 1
