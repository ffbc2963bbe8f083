"""Trials of the backends on this machine's CPU, kept for machine, model and versions.

A trial draws with each way that there is and finds how long a picture takes, and how far its
answers are from ONNX Runtime's in fp32 (`runtime.draw.cpu_trial`). The result is a file in the
cache folder; a trial of another machine, package or version of a library does not count.
"""

import fcntl
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.backends.rows import BackendRow
from runtime.backends.wishes import CpuPrecision
from runtime.files import cache_folder, write_whole
from runtime.machine import processor
from runtime.package.manifest import ModelPackage

TOLERANCE: Mapping[CpuPrecision, float] = {"fp32": 5e-3, "bf16": 5e-2}
"""The error that a way may have, as a compiled engine of that precision may."""

_FORMAT = 2
"""Another number where a backend draws in another way than before."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """A backend on the CPU, and the precision of its denoiser."""

    row: BackendRow
    precision: CpuPrecision = "fp32"

    def __str__(self) -> str:
        return f"{self.row.name} in {self.precision}"


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Outcome:
    """The outcome of a trial for one way."""

    seconds: float
    """The time of the model's usual picture: its steps and the decoder."""
    error: float
    """The error of the denoiser's answers; see `runtime.draw.cpu_trial`."""
    fault: str = ""
    """The reason why the way cannot draw the package; empty where it can."""


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CpuTrial:
    """A trial of some ways for one package."""

    conditions: Mapping[str, str]
    outcomes: Mapping[str, Outcome]
    """By the way's name."""


_TRIAL = TypeAdapter(CpuTrial)


def conditions(package: ModelPackage, ways: Sequence[Way]) -> dict[str, str]:
    """The facts that a trial holds for."""
    return {
        "format": str(_FORMAT),
        "processor": processor(),
        "package": package.digest,
        **{str(way): way.row.installed_version() for way in ways},
    }


def kept_trial(package: ModelPackage, ways: Sequence[Way]) -> CpuTrial | None:
    """The trial of exactly these ways under the present conditions, or None."""
    try:
        trial = _TRIAL.validate_json(_file(package, ways).read_bytes())
    except (OSError, ValidationError):
        return None  # not there, or not ours: the trial is made anew
    return trial if trial.conditions == conditions(package, ways) else None


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other process of this machine makes a trial: two would slow each other, and
    workers of one server might choose differently. Nothing is waited for where the cache folder
    takes no file.
    """
    folder = cache_folder() / "cpu_trials"
    with ExitStack() as stack:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((folder / ".lock").open("a")), fcntl.LOCK_EX)
        yield


def keep_trial(package: ModelPackage, ways: Sequence[Way], trial: CpuTrial) -> None:
    """Keep a trial; one that cannot be written is made again by the next process, and logged."""
    path = _file(package, ways)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _TRIAL.dump_json(trial, indent=2))
    except OSError as error:
        logger.warning("the trial cannot be kept, and is made again at the next start: %s", error)


def _file(package: ModelPackage, ways: Iterable[Way]) -> Path:
    names = "+".join(f"{way.row.name}-{way.precision}" for way in ways)
    return cache_folder() / "cpu_trials" / f"{package.digest[:16]}-{names}.json"
