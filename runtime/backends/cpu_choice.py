"""Chooses between the backends that run a package's own graphs on the CPU.

A backend that was asked for by name draws, or cannot be had. `auto` takes the one that drew faster
in the trial on this machine; where a single one is installed nothing is tried.
"""

from collections.abc import Iterator

from runtime.backends.cpu_trials import TOLERANCE, CpuTrial, Way, kept_trial
from runtime.backends.rows import CPU, CPU_BACKENDS, BackendRow
from runtime.backends.wishes import CpuPrecision
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage

WITHOUT_TARGET = tuple(row.name for row in CPU_BACKENDS)
"""The backends that need no target."""


def cpu_way(package: ModelPackage, wish: str, precision: CpuPrecision) -> tuple[Way, str]:
    """The way to draw on the CPU, and why in a line; `wish` is `auto` or a backend's name.

    Raises BackendError where there is none, and for one that failed its trial.
    """
    ways, tried = able(package, wish, precision), to_try(package, wish, precision)
    if tried and (trial := kept_trial(package, tried)):
        unfit = {way: fault for way in ways if (fault := _fault(way, trial))}
        if len(unfit) == len(ways):
            raise BackendError(f"{'; '.join(unfit.values())}; draw with --cpu-precision fp32")
        fit = [way for way in ways if way not in unfit]
        best = min(fit, key=lambda way: trial.outcomes[str(way)].seconds)
        passed = [f"passed over {fault}" for fault in unfit.values()]
        return best, "; ".join([f"{_said(best, wish)} ({_times(trial)})", *passed])
    # Nothing to decide, or a process that makes no trial: the backend that is always there.
    best = min(ways, key=lambda way: way.row.name != CPU)
    return best, _said(best, wish)


def able(package: ModelPackage, wish: str, precision: CpuPrecision) -> list[Way]:
    """The ways that there are to draw a package on this machine's CPU in a precision.

    Raises BackendError for none, with the reasons.
    """
    rows = [row for row in CPU_BACKENDS if wish in ("auto", row.name)]
    faults = {row.name: next(_faults(row, package, precision), None) for row in rows}
    ways = [Way(row, precision) for row in rows if faults[row.name] is None]
    if not ways:
        said = "; ".join(dict.fromkeys(fault for fault in faults.values() if fault))
        asked = f"--cpu-precision {precision}" if wish == "auto" else f"--backend {wish}"
        raise BackendError(f"{asked} cannot be had for {package.manifest.name}: {said}")
    return ways


def to_try(package: ModelPackage, wish: str, precision: CpuPrecision) -> list[Way]:
    """The ways that a trial has to compare before one of them can be taken; empty where there is
    nothing to decide. A precision other than fp32 is compared with fp32.

    Raises BackendError as `able`.
    """
    ways = able(package, wish, precision)
    if precision == "fp32":
        return ways if len(ways) > 1 else []
    return [*ways, *(Way(way.row) for way in ways)]


def _faults(row: BackendRow, package: ModelPackage, precision: CpuPrecision) -> Iterator[str]:
    """The reasons why a backend cannot draw a package here, each with the remedy."""
    if row.name != CPU:  # what Calotype depends on is there
        try:
            row.installed_version()
        except BackendError as error:
            yield str(error)
    if precision not in row.cpu_precisions:
        others = [each.name for each in CPU_BACKENDS if precision in each.cpu_precisions]
        yield (
            f"{row.name} computes in {', '.join(row.cpu_precisions)} alone; take --backend "
            f"{' or '.join(others)}, or --cpu-precision fp32"
        )
    outside = [each for each in package.manifest.roles.values() if each.external_folder]
    if outside and not row.reads_in_place:
        yield (
            f"its weights were left in {outside[0].external_folder}, and {row.library} reads none "
            f"outside of the package; build it without --in-place, or draw with --backend {CPU}"
        )


def _said(way: Way, wish: str) -> str:
    asked = "" if wish == "auto" else ", as asked for"
    narrow = "" if way.precision == "fp32" else f" in {way.precision}"
    return f"{way.row.library} on the CPU{narrow}{asked}"


def _times(trial: CpuTrial) -> str:
    times = (
        f"{outcome.seconds:.3g} s by {name}"
        for name, outcome in trial.outcomes.items()
        if not outcome.fault
    )
    return f"the usual picture takes {', '.join(times)}"


def _fault(way: Way, trial: CpuTrial) -> str | None:
    """The reason why a way that was tried is not to be taken; None for none."""
    outcome, allowed = trial.outcomes[str(way)], TOLERANCE[way.precision]
    if outcome.fault:
        return f"{way}: {outcome.fault}"
    if outcome.error <= allowed:
        return None
    return (
        f"{way}, which is off by {outcome.error:.2g} of what it shall answer, at most {allowed} is "
        "allowed"
    )
