"""Verifies a target on the device that it is for: each engine against the package's own graph, on
the inputs of real pictures.

A target that was not verified, or did not pass, is never served. What is measured goes into its
record, passed or not.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from polygraphy.comparator import IterationResult, SimpleCompareFunc
from polygraphy.logger import G_LOGGER

from engine_build.package.tolerances import ENGINE_PICTURE, ENGINE_VALUES, ENGINES, PICTURE_SHARE
from engine_build.target.capture import Call
from engine_build.target.compiler import COMPILERS
from engine_build.target.reference import Reference
from engine_build.target.stacking import stacked
from runtime.backends.protocol import Array
from runtime.errors import BuildError
from runtime.package.engine_record import EngineCheck, EngineRecord, StepTime
from runtime.package.manifest import (
    BATCH,
    EVALUATIONS,
    ModelPackage,
    Precision,
    RoleRecord,
)
from runtime.package.target import Target, read_target, stale_parts, tuned_sizes, write_target

UNUSABLE = 1e9
"""The error of an answer that cannot even be compared; JSON has no infinity."""

REPEATS = 20

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class OpenEngine(Protocol):
    """An engine on a device."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Named host arrays in and out."""
        ...

    def milliseconds(self, inputs: Mapping[str, Array]) -> float:
        """Milliseconds of one call on the device, without copies to and from the host."""
        ...

    def close(self) -> None:
        """Give the engine's memory back: the next engine may need all memory that there is."""
        ...


Opener = Callable[[Target, str], OpenEngine]
"""Opens a role's engine of a target, on the device that it is for."""


def verify_target(reference: Reference, target: Target, open_engine: Opener) -> Target:
    """Check every engine of a target and write what was measured into its record.

    `reference` is of the sizes that the target serves; its networks are closed before an engine is
    opened. Raises BuildError for a target of other files than the package holds; and, after the
    record is written, where an engine is further off than it may be.
    """
    package = reference.package
    stale = stale_parts(target.record, package.manifest)
    if stale:
        raise BuildError(f"{target.name}: {'; '.join(stale)}; compile it again")
    record, manifest = target.record, package.manifest
    assert reference.sizes == tuned_sizes(record.identity, manifest)
    calls = reference.calls
    checked = {}
    for role, engine in record.engines.items():
        identity = record.identity.engines[role]
        fixed = _fixed_answers(package, target, role, open_engine, calls[role])
        with closing(open_engine(target, role)) as opened:
            checked[role] = verified(
                manifest.roles[role],
                engine,
                engine.precision(identity.precision),
                calls[role],
                opened=opened,
                fixed=fixed,
                largest_batch=max(profile[BATCH].largest for profile in identity.profiles),
            )
    write_target(target.path, replace(record, engines=checked))
    for role, engine in checked.items():
        if engine.check is not None and not engine.check.passed:
            raise BuildError(f"{target.name}: {role} {_shortfall(engine.check)}")
    return read_target(target.path)


def _fixed_answers(
    package: ModelPackage, target: Target, role: str, open_engine: Opener, calls: Sequence[Call]
) -> Sequence[Call] | None:
    """The answers of the engine compiled with fixed weights; None where the engine has fixed
    weights already, or its backend compiles both alike."""
    fixed_target = COMPILERS[target.record.identity.backend].fixed
    if fixed_target is None:
        return None
    with TemporaryDirectory(prefix=".verify-", dir=target.path.parent) as folder:
        fixed = fixed_target(package, target, role, Path(folder))
        if fixed is None:
            return None
        with closing(open_engine(fixed, role)) as opened:
            return [Call(call.inputs, opened.run(call.inputs)) for call in calls]


def _shortfall(check: EngineCheck) -> str:
    if check.largest_error > check.tolerance:
        return (
            f"is off by {check.largest_error:.1e} of what it shall answer, allowed is "
            f"{check.tolerance:.1e}; the target stays out of service"
        )
    return (
        f"is off by {check.refit_error or 0:.1e} from itself compiled with fixed weights, allowed "
        f"is {check.tolerance:.1e}; the target stays out of service"
    )


def verified(
    role: RoleRecord,
    engine: EngineRecord,
    precision: Precision,
    calls: Sequence[Call],
    *,
    opened: OpenEngine,
    fixed: Sequence[Call] | None,
    largest_batch: int,
) -> EngineRecord:
    """The engine's record with what was measured of it; `calls` must fit its profiles.

    Calls of the step graph are timed with every number of samples up to `largest_batch`, too.
    `fixed` has the answers of the same engine compiled with weights that cannot be replaced, where
    those of `opened` can: the two have been known to give different numbers.
    """
    check = check_engine(calls, opened.run, precision)
    if fixed is not None:
        check = replace(check, refit_error=check_engine(fixed, opened.run, precision).largest_error)
    timed = [call.inputs for call in calls]
    if EVALUATIONS in role.axes:
        timed = [
            stacked(role, inputs, samples)
            for samples in range(1, largest_batch + 1)
            for inputs in timed
        ]
    return replace(engine, check=check, step_times=step_times(role, timed, opened))


def check_engine(calls: Sequence[Call], run: Run, precision: Precision) -> EngineCheck:
    """The largest error of an engine over all calls, relative to the expected outputs."""
    tolerance = ENGINES[precision]
    errors: dict[str, float] = {}
    for call in calls:
        found = run(call.inputs)
        for name, expected in call.outputs.items():
            if expected.dtype == np.uint8:
                tolerance = ENGINE_PICTURE
            off = compared(name, expected, found[name], precision)
            errors[name] = max(errors.get(name, 0.0), off)
    return EngineCheck(max(errors.values()), tolerance, errors)


def compared(name: str, expected: Array, found: Array, precision: Precision) -> float:
    """The error of an output, relative to the expected one: see `engine_build.package.tolerances`.

    Of floats, the larger of two: the root mean square of the differences, relative to the expected
    output's, and the largest difference, relative to the largest magnitude and divided by
    ENGINE_VALUES. Of 8-bit pictures, the 99.9th percentile of the differences, relative to 255.
    UNUSABLE where shapes differ, a value is not finite, or all expected floats are 0.
    """
    picture = expected.dtype == np.uint8
    scale = 255.0 if picture else float(np.abs(expected.astype(np.float64)).max())
    same_shape = expected.shape == found.shape
    if not (same_shape and scale > 0 and np.isfinite(found).all() and np.isfinite(expected).all()):
        return UNUSABLE
    function = SimpleCompareFunc(
        check_error_stat="quantile" if picture else "max",
        error_quantile=PICTURE_SHARE if picture else None,
        # The caller decides which error is allowed: here the error is only measured.
        atol=float("inf"),
    )
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        answer = function(
            IterationResult({name: found.astype(np.float64)}, runner_name="engine"),
            IterationResult({name: expected.astype(np.float64)}, runner_name="ONNX Runtime"),
        )[name]
    if picture:
        return float(answer.quantile_absdiff) / scale
    wanted = expected.astype(np.float64)
    off = float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))
    return max(off, float(answer.max_absdiff) / scale / ENGINE_VALUES[precision])


def step_times(
    role: RoleRecord, calls: Sequence[Mapping[str, Array]], opened: OpenEngine
) -> tuple[StepTime, ...]:
    """The median time of a call, for each set of extents among the calls' inputs."""
    times = {}
    for inputs in calls:
        axes = extents(role, inputs)
        key = tuple(sorted(axes.items()))
        if key not in times:
            opened.milliseconds(inputs)  # the first one still makes kernels
            measured = [opened.milliseconds(inputs) for _ in range(REPEATS)]
            times[key] = StepTime(axes, round(statistics.median(measured), 3))
    return tuple(times.values())


def extents(role: RoleRecord, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The extent of each dynamic axis in a call."""
    return {
        axis: int(inputs[name].shape[at])
        for name, record in role.inputs.items()
        for at, axis in enumerate(record.shape)
        if isinstance(axis, str)
    }
