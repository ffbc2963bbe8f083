"""What a target lets a model do: fewer sizes and smaller batches than its graphs take, perhaps."""

from dataclasses import dataclass

from runtime.batch import BatchLimits
from runtime.manifest import BATCH, EVALUATIONS, HEIGHT, WIDTH, Manifest
from runtime.target import StepTime, Target


@dataclass(frozen=True, slots=True)
class Served:
    """What can be drawn by the engines that were chosen."""

    limits: BatchLimits
    sizes: tuple[tuple[int, int], ...] = ()
    """Width and height in pixels of what engines were tuned for, the most usual first; none where
    every size is as good."""
    fixed_weights: str | None = None
    """Why LoRAs are refused, where weights cannot be replaced."""


def served_by(target: Target | None, manifest: Manifest) -> Served:
    """What a target's denoiser takes; all that the graphs take where there is none."""
    limits = BatchLimits(manifest.limits.max_batch, manifest.limits.max_evaluations)
    if target is None:
        return Served(limits)
    engine = target.record.identity.engines["denoiser"]
    if not engine.profiles:
        return Served(limits)
    scale = manifest.latents.scale_factor
    sizes = dict.fromkeys(
        (profile[WIDTH].best * scale, profile[HEIGHT].best * scale) for profile in engine.profiles
    )
    fixed = (
        f"the target {target.name} was compiled with fixed weights, so that it draws nothing with "
        f"LoRAs; compile it without --fixed-weights"
    )
    return Served(
        limits=BatchLimits(
            samples=_samples(target, max(profile[BATCH].largest for profile in engine.profiles)),
            evaluations=max(profile[EVALUATIONS].largest for profile in engine.profiles),
        ),
        sizes=tuple(sizes),
        fixed_weights=None if engine.refittable else fixed,
    )


def _samples(target: Target, largest: int) -> int:
    """How many samples a call is best made for, by the target's measured step times.

    On a large model a batch of two can take twice as long: then each picture comes later, and none
    sooner. Without times of batches, as many as an engine takes: first come, first served.
    """
    shares: dict[int, float] = {}
    times = target.record.engines["denoiser"].step_times
    for time in (each for each in times if _alike(each, times[0])):
        samples = time.axes[BATCH]
        shares[samples] = time.milliseconds / samples
    if largest not in shares:
        return largest
    return min(shares, key=lambda samples: (shares[samples], samples))


def _alike(time: StepTime, other: StepTime) -> bool:
    """Whether two calls differ in their number of samples alone."""
    ours, theirs = dict(time.axes), dict(other.axes)
    for axes in (ours, theirs):
        axes[EVALUATIONS] //= axes.pop(BATCH)
    return ours == theirs
