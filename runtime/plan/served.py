"""Limits of the chosen engines: a target may take fewer sizes and smaller batches than its graphs.

The worker chooses the target and sends these limits to the server in its `Ready` message. Both
processes refuse by the same rule, the server before a job is accepted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from runtime.backends.rows import CPU
from runtime.errors import Fault, RequestError
from runtime.package.engine_record import StepTime
from runtime.package.manifest import BATCH, EVALUATIONS, HEIGHT, WIDTH, Manifest
from runtime.package.target import Profile, Target, tuned_sizes
from runtime.plan.call_room import CallRoom
from runtime.plan.families.family import Prompt
from runtime.plan.plan import Plan
from runtime.plan.size_room import SizeRoom, size_room


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Most samples and most evaluations of one call of the step graph."""

    samples: int
    evaluations: int


@dataclass(frozen=True, slots=True)
class SizeRange:
    """A range of picture sizes in pixels, both ends included."""

    min_width: int
    max_width: int
    min_height: int
    max_height: int

    def takes_width(self, width: int) -> bool:
        """True when a picture may be this wide."""
        return self.min_width <= width <= self.max_width

    def takes_height(self, height: int) -> bool:
        """True when a picture may be this high."""
        return self.min_height <= height <= self.max_height

    def takes(self, width: int, height: int) -> bool:
        """True when a picture may have this size."""
        return self.takes_width(width) and self.takes_height(height)

    def __str__(self) -> str:
        return f"{_ends(self.min_width, self.max_width)}x{_ends(self.min_height, self.max_height)}"


@dataclass(frozen=True, slots=True)
class Served:
    """Requests that the chosen engines can draw."""

    limits: BatchLimits
    tuned: tuple[tuple[int, int], ...] = ()
    """Sizes (width, height) in pixels that the engines were tuned for, the most common first; empty
    when no size is preferred."""
    sizes: tuple[SizeRange, ...] = ()
    """Size ranges of the engines; empty when they take every size of the model."""
    other_sizes: str = ""
    """Remedy for a size outside of all ranges, as a sentence."""
    longest_text: int | None = None
    """Most tokens of a prompt; None when the model's own limit holds."""
    room: SizeRoom | None = None
    """The memory that `sizes` follow from; None where they follow from the engines."""
    fixed_weights: str | None = None
    """Reason for refusing LoRAs; None when the engines' weights can be replaced."""

    def check(self, plan: Plan) -> None:
        """Raises RequestError with every fault of a plan that no engine takes."""
        faults = [*self._size_faults(plan.request.width, plan.request.height)]
        faults += self._text_faults(plan.prompts)
        if plan.loras and self.fixed_weights:
            faults.append(Fault("/loras", self.fixed_weights))
        if plan.has_inversions and self.fixed_weights:
            faults.append(Fault("/prompt", f"it names an embedding: {self.fixed_weights}"))
        if faults:
            raise RequestError.of(faults)

    def check_size(self, width: int, height: int) -> None:
        """Raises RequestError for a size in pixels that no engine takes."""
        if faults := [*self._size_faults(width, height)]:
            raise RequestError.of(faults)

    def within(self, memory: int | None, needs: CallRoom, manifest: Manifest) -> "Served":
        """The same limits, and no larger pictures than so many bytes hold; None: as they are."""
        room = None if memory is None else size_room(memory, needs, manifest)
        corners = room.corners(manifest.limits) if room else []
        if not corners:
            return self
        least = manifest.limits.min_size
        return replace(
            self,
            room=room,
            sizes=tuple(SizeRange(least, width, least, height) for width, height in corners),
            other_sizes="ask for fewer pixels, or let drawing take more with --draw-memory-mb",
        )

    def _size_faults(self, width: int, height: int) -> Iterator[Fault]:
        """At most one fault: at the height when some range takes the width, else at the width."""
        as_wide = [each for each in self.sizes if each.takes_width(width)]
        if not self.sizes or any(each.takes_height(height) for each in as_wide):
            return
        taken = ", ".join(str(each) for each in self.sizes)
        reason = f"no engine takes {width}x{height} pixels; they take {taken}"
        if self.room:
            reason = f"{self.room.refusal(width, height)}; what fits is {taken}"
        yield Fault("/height" if as_wide else "/width", f"{reason}; {self.other_sizes}")

    def _text_faults(self, prompts: Sequence[Prompt]) -> Iterator[Fault]:
        tokens = max(prompt.tokens for prompt in prompts)
        if self.longest_text is None or tokens <= self.longest_text:
            return
        # Both have as many chunks, and the longer one is to be shortened.
        longer = min(prompts, key=lambda prompt: prompt.filling)
        yield Fault(
            "/prompt" if longer is prompts[0] else "/negative_prompt",
            f"it fills {tokens} tokens, and the engines take {self.longest_text}; shorten it, or "
            f"draw with --backend {CPU}",
        )

    def to_json(self) -> dict[str, Any]:
        """This object as JSON, for another process."""
        content: dict[str, Any] = _SERVED.dump_python(self, mode="json")
        return content

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Served":
        """The object that `to_json` wrote."""
        return _SERVED.validate_python(content)


_SERVED = TypeAdapter(Served)


def served_by(target: Target | None, manifest: Manifest) -> Served:
    """Limits of a target's denoiser; those of the package's graphs when `target` is None."""
    limits = BatchLimits(manifest.limits.max_batch, manifest.limits.max_evaluations)
    if target is None:
        return Served(limits)
    engine = target.record.identity.engines["denoiser"]
    if not engine.profiles:
        return Served(limits)
    scale = manifest.latents.scale_factor
    sizes = [size_range(profile, scale) for profile in engine.profiles]
    fixed = (
        f"the target {target.name} was compiled with fixed weights, so that it draws nothing with "
        f"LoRAs or embeddings; compile it without --fixed-weights"
    )
    return Served(
        limits=BatchLimits(
            samples=_samples(target, max(profile[BATCH].largest for profile in engine.profiles)),
            evaluations=max(profile[EVALUATIONS].largest for profile in engine.profiles),
        ),
        tuned=tuned_sizes(target.record.identity, manifest),
        sizes=tuple(dict.fromkeys(sizes)),
        other_sizes=(
            "compile engines that take it, too, with --sizes (these are of: "
            f"{target.record.command}), or draw with --backend {CPU}"
        ),
        longest_text=_longest_text(manifest, engine.profiles),
        fixed_weights=None if engine.refittable else fixed,
    )


def _longest_text(manifest: Manifest, profiles: Sequence[Profile]) -> int | None:
    """Most tokens by the engines' profiles: token axes alone have no maximum in a manifest."""
    axes = manifest.roles["denoiser"].axes
    endless = [name for name, axis in axes.items() if axis.maximum is None]
    return min((each[name].largest for each in profiles for name in endless), default=None)


def size_range(profile: Profile, scale: int) -> SizeRange:
    """Size range of a profile, as `backends.profiles` checks; `scale` is pixels per latent."""
    width, height = profile[WIDTH], profile[HEIGHT]
    return SizeRange(
        width.smallest * scale,
        width.largest * scale,
        height.smallest * scale,
        height.largest * scale,
    )


def _ends(smallest: int, largest: int) -> str:
    return str(smallest) if smallest == largest else f"({smallest} to {largest})"


def _samples(target: Target, largest: int) -> int:
    """Best number of samples in a call, by the target's measured step times.

    On a large model a batch of two can take twice as long: then no picture comes sooner and some
    come later. Without measured times of batches, the number is `largest`, all an engine takes.
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
    """True when two calls differ in their number of samples alone."""
    ours, theirs = dict(time.axes), dict(other.axes)
    for axes in (ours, theirs):
        axes[EVALUATIONS] //= axes.pop(BATCH)
    return ours == theirs
