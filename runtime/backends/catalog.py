"""Chooses the backend, the target and the GPU that draw a model on this machine.

`auto` takes the best verified target that the machine can run, and the CPU where there is none, by
the backend that is the faster one there (`cpu_choice`); the choice's note names every target that
was passed over, with its reason (`target_faults`). A backend that was asked for by name and cannot
be had is an error, never a fallback.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from runtime.backends.cpu_choice import WITHOUT_TARGET, cpu_way, to_try
from runtime.backends.cpu_trials import Way, kept_trial
from runtime.backends.devices import Devices, Gpu
from runtime.backends.placing import TextWish
from runtime.backends.protocol import Backend
from runtime.backends.rows import BACKENDS, Opening, row_of
from runtime.backends.target_faults import cpu_notes, passed_over, refusal, target_faults
from runtime.backends.wishes import BackendWish, CpuPrecision
from runtime.errors import BackendError, PackageError
from runtime.package.manifest import ModelPackage
from runtime.package.target import Target, read_target, target_directories


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend that draws, on which target and GPU, and why."""

    backend: str
    target: Target | None
    """None where the package's graphs are run as they are."""
    gpu: Gpu | None
    note: str
    """The reason, in one line: the target that was taken, and those that were passed over."""
    cpu_precision: CpuPrecision = "fp32"
    """That of the denoiser's matrix products where the package's graphs are run as they are."""

    @property
    def target_name(self) -> str:
        """The target's name, or the backend's name where the choice has no target."""
        return self.target.name if self.target else self.backend

    @property
    def device(self) -> str:
        """The name of the GPU that draws, or `cpu`."""
        return self.gpu.name if self.gpu else "cpu"

    @property
    def precision(self) -> str:
        """The precision of the denoiser's matrix products."""
        if self.target is None:
            return self.cpu_precision
        return self.target.record.identity.engines["denoiser"].precision


def choose(
    package: ModelPackage,
    wish: BackendWish,
    devices: Devices,
    cpu_precision: CpuPrecision = "fp32",
) -> Choice:
    """The best choice for a model. Raises BackendError where `wish` cannot be had.

    `cpu_precision` is for the CPU alone. A choice that waits for a trial (`awaiting_trial`) is made
    without one: by the backend of the CPU that is always there.
    """
    if wish in WITHOUT_TARGET:
        return _on_cpu(*cpu_way(package, wish, cpu_precision))
    usable, reasons = _targets(package, devices, wish)
    if usable:
        best = min(usable, key=_rank)
        others = [f"{target.name}: {_slower(target, best)}" for target in usable if target != best]
        note = "; ".join([f"{best.name} on {devices.first}", *passed_over([*others, *reasons])])
        return Choice(best.record.identity.backend, best, devices.first, note)
    if wish != "auto":
        raise BackendError(refusal(package, row_of(wish), devices, reasons))
    way, why = cpu_way(package, wish, cpu_precision)
    return _on_cpu(way, "; ".join([why, *cpu_notes(package, devices, reasons)]))


def awaiting_trial(
    package: ModelPackage, wish: BackendWish, devices: Devices, cpu_precision: CpuPrecision
) -> list[Way]:
    """The ways to draw on the CPU that have to be tried before `choose` can tell which is the best,
    or whether one is right; empty where the choice waits for none. Raises BackendError.
    """
    if wish not in ("auto", *WITHOUT_TARGET) or _targets(package, devices, wish)[0]:
        return []
    ways = to_try(package, wish, cpu_precision)
    return [] if not ways or kept_trial(package, ways) else ways


def awaiting_verification(
    package: ModelPackage, wish: BackendWish, devices: Devices
) -> Target | None:
    """The best target for this machine that only lacks a first run on its GPU; None for none."""
    waiting = [
        target
        for target in _read_targets(package, wish)
        if isinstance(target, Target) and _only_unverified(package, target, devices)
    ]
    return min(waiting, key=_rank, default=None)


def open_backend(
    package: ModelPackage,
    choice: Choice,
    threads: int | None = None,
    *,
    captures: bool = True,
    text_encoders: TextWish = "keep",
) -> Backend:
    """Open the backend of a choice; its vendor is imported here. Raises BackendError.

    `threads` is for the CPU; None for as many as there are cores. Without `captures` nothing runs
    as a CUDA graph. `text_encoders` is their place; `auto` decides by the room that there is.
    """
    opening = Opening(
        package,
        choice.target,
        choice.device,
        threads,
        captures,
        text_encoders,
        choice.cpu_precision,
    )
    return row_of(choice.backend).open(opening)


def _on_cpu(way: Way, note: str) -> Choice:
    return Choice(way.row.name, None, None, note, way.precision)


def _targets(
    package: ModelPackage, devices: Devices, wish: BackendWish
) -> tuple[list[Target], list[str]]:
    """The targets that can serve, and a sentence for each that cannot."""
    usable, reasons = [], []
    for target in _read_targets(package, wish):
        if isinstance(target, PackageError):
            reasons.append(str(target))
        elif reason := next(target_faults(package, target, devices), None):
            reasons.append(f"{target.name}: {reason}")
        else:
            usable.append(target)
    return usable, reasons


def _read_targets(package: ModelPackage, wish: BackendWish) -> Iterator[Target | PackageError]:
    """The package's targets of the backend asked for; the error of each that cannot be read."""
    for directory in target_directories(package.path):
        try:
            target = read_target(directory)
        except PackageError as error:
            yield error
            continue
        if wish in ("auto", target.record.identity.backend):
            yield target


def _only_unverified(package: ModelPackage, target: Target, devices: Devices) -> bool:
    never_ran = any(engine.check is None for engine in target.record.engines.values())
    return never_ran and len(list(target_faults(package, target, devices))) == 1


def _rank(target: Target) -> tuple[int, float, str]:
    """Backends in the order of preference, then the shorter step as it was measured."""
    preferred = [row.name for row in BACKENDS]
    return preferred.index(target.record.identity.backend), _step(target), target.name


def _step(target: Target) -> float:
    """Milliseconds of a step at the size served most; infinite without a measurement."""
    times = target.record.engines["denoiser"].step_times
    return times[0].milliseconds if times else float("inf")


def _slower(target: Target, best: Target) -> str:
    if target.record.identity.backend != best.record.identity.backend:
        return f"{best.record.identity.backend} comes first"
    if _step(target) == _step(best):
        return "as good"
    return f"a step takes {_step(target):.1f} ms, not {_step(best):.1f}"
