"""The profiles of engines: the ranges of sizes and batches that each is tuned for.

Engines of dynamic shapes can be many times slower, so each size that is asked for gets profiles of
its own. Where the largest batch is one sample, each number of evaluations gets a profile too, which
is static. With larger batches, all batches of a size share one profile, tuned for a single sample,
whose time is the latency. The text's length stays dynamic: a long prompt is no reason to refuse a
request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.errors import BuildError
from runtime.package.manifest import BATCH, EVALUATIONS, HEIGHT, WIDTH, AxisRecord, Manifest
from runtime.package.target import Profile, Range

LONGEST_TEXT = 4
"""How many times the usual length a text may have where the graph itself sets no limit; and how
many texts an encoder reads at once."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The sizes and batches that engines are tuned for."""

    sizes: tuple[tuple[int, int], ...]
    """Widths and heights in pixels, the size that is served most first."""
    max_batch: int


def check_served(served: Tuning, manifest: Manifest) -> None:
    """Refuse what the package's graphs do not take. Raises BuildError."""
    limits = manifest.limits
    if not 1 <= served.max_batch <= limits.max_batch:
        raise BuildError(
            f"--max-batch {served.max_batch}: {manifest.name} takes 1 to {limits.max_batch} samples"
        )
    for width, height in served.sizes:
        for side in (width, height):
            if not limits.min_size <= side <= limits.max_size or side % limits.multiple_of:
                raise BuildError(
                    f"--sizes {width}x{height}: {manifest.name} takes sides of {limits.min_size} "
                    f"to {limits.max_size} pixels, multiples of {limits.multiple_of}"
                )


def profiles_of(role: str, manifest: Manifest, served: Tuning) -> tuple[Profile, ...]:
    """The profiles of a role's engine, the profile that is served most first."""
    axes = manifest.roles[role].axes
    places = _places(axes, manifest, served)
    return tuple(
        {name: ranges.get(name) or _text(axis) for name, axis in axes.items()} for ranges in places
    )


def _places(
    axes: Mapping[str, AxisRecord], manifest: Manifest, served: Tuning
) -> Iterator[dict[str, Range]]:
    """The ranges of the axes that sizes and batches decide, one mapping for each profile."""
    if HEIGHT not in axes:
        # Text: a longer batch is run in pieces.
        yield {BATCH: Range(1, 1, min(LONGEST_TEXT, axes[BATCH].maximum or LONGEST_TEXT))}
        return
    scale = manifest.latents.scale_factor
    for width, height in served.sizes:
        size = {HEIGHT: _fixed(height // scale), WIDTH: _fixed(width // scale)}
        if EVALUATIONS not in axes:
            yield {**size, BATCH: _fixed(1)}
            continue
        most = manifest.limits.max_evaluations // manifest.limits.max_batch
        if served.max_batch == 1:
            for count in range(most, 0, -1):
                yield {**size, BATCH: _fixed(1), EVALUATIONS: _fixed(count)}
        else:
            evaluations = Range(1, most, most * served.max_batch)
            yield {**size, BATCH: Range(1, 1, served.max_batch), EVALUATIONS: evaluations}


def _text(axis: AxisRecord) -> Range:
    usual = axis.usual or axis.minimum
    if axis.maximum is None:
        return Range(usual, usual, LONGEST_TEXT * usual)
    return Range(axis.minimum, usual, axis.maximum)


def _fixed(extent: int) -> Range:
    return Range(extent, extent, extent)
