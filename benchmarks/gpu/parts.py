"""The parts of a run: a command each, in a process of its own, with a limit on its time.

A part writes its result to a file, after each of its stages where there are several: what a part
had found is kept when the part fails, hangs or takes its process with it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu.families import Family

RAN, FAILED, NOT_THERE = "ran", "failed", "not there"
ROOT = Path(__file__).resolve().parents[2]
GRACE = 10.0
"""Seconds between the request to end and the end of a part's processes."""
KEPT_LINES = 40

# For estimates alone, in seconds; gigabytes a second of weights that are made and hashed.
_BUILDING, _COMPILED, _OPENING, _COMPILING, _WRITTEN = 300.0, 120.0, 20.0, 60.0, 0.5
# diffusers draws eight pictures of a mode, and a slower one than ours.
_PICTURES_OF_A_MODE, _SLOWER = 8, 1.7


@dataclass(frozen=True, slots=True)
class Place:
    """Package to measure, and files around it."""

    engines: Path
    model: str
    backend: str
    source: Path
    """Checkpoint of the package as a diffusers folder, whether it is there or not."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a run."""

    name: str
    seconds: float
    """Limit of its time."""
    command: Sequence[str]
    """Module and arguments for Python; empty where the part cannot run."""
    reason: str = ""
    """Reason why the part cannot run."""
    about: float = 0.0
    """Seconds that the part is expected to take: an estimate, for whoever shares out the time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a part."""

    outcome: str
    reason: str
    seconds: float
    result: Any
    """Content of the part's file; of a part that failed, what was there until then."""
    last_lines: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """The outcome, without the lines where all went well."""
        content = asdict(self) | {"seconds": round(self.seconds, 1)}
        if self.outcome == RAN:
            del content["last_lines"]
        return content


def parts_of(family: Family, place: Place, making: Sequence[str] | None) -> Iterator[Part]:
    """The parts of a family's run, those that say most first; `making` makes the package.

    `making` is None for a package that was there before.
    """
    if making is None:
        yield Part("package", 0, (), f"{place.engines / place.model} was there before")
    else:
        yield _package(family, place, making)
    package = (
        *("--model", place.model, "--engines", str(place.engines)),
        *("--backend", place.backend),
    )
    size = ("--size", str(family.size))
    sampler = ("--sampler", family.sampler) if family.sampler else ()
    drawn = (*package, *size, *sampler, "--steps", str(family.steps))
    count = ("--pictures", str(family.pictures))
    loop = ("--loop", str(family.loop), "--loop-steps", str(family.loop_steps))
    patience = ("--patience", str(family.patience))
    one, looped = family.picture_s, 2 * family.loop * family.loop_steps / family.steps
    served = ("benchmarks.served_picture", *drawn, *count, *loop, *patience)
    yield Part("served", 240, served, about=_OPENING + one * (1 + 2 * family.pictures + looped))
    in_process = ("benchmarks.kernels", *drawn, *count, "--previews")
    yield Part("pictures", 150, in_process, about=_OPENING + one * 2 * family.pictures)
    yield _loras(family, (*package, *size))
    plain = ("--no-cuda-graphs", "--pictures", "3")
    yield Part("plain", 120, ("benchmarks.kernels", *drawn, *plain), about=_OPENING + one * 3)
    there = making is not None or (place.source / "model_index.json").is_file()
    yield _diffusers(family, place, (*size, "--steps", str(family.steps)), there=there)


def _package(family: Family, place: Place, making: Sequence[str]) -> Part:
    """Weights, target and verification; and the package itself, where it was not made elsewhere."""
    built = (place.engines / place.model / "manifest.json").is_file()
    building = 0.0 if built else _BUILDING
    about = building + _COMPILED + family.weights_gb / _WRITTEN
    command = ("benchmarks.published_package", *making)
    return Part("package", 420 + building, command, about=about)


def _loras(family: Family, drawn: Sequence[str]) -> Part:
    if not family.loras:
        return Part("loras", 0, (), f"{family.model}: LoRAs are not measured")
    repetitions = ("--repetitions", str(family.lora_changes))
    about = _OPENING + 20 * family.lora_changes * family.picture_s
    return Part("loras", 200, ("benchmarks.lora_pictures", *drawn, *repetitions), about=about)


def _diffusers(family: Family, place: Place, drawn: Sequence[str], *, there: bool) -> Part:
    """`there`: the checkpoint is there, or will be once the package was made."""
    reason = ""
    if find_spec("diffusers") is None:
        reason = "diffusers is not installed"
    elif not there:
        reason = f"{place.source}: no diffusers folder with the same weights"
    if reason:
        return Part("diffusers", 0, (), reason)
    told = ("--dtype", family.dtype, "--denoiser", family.denoiser)
    guided = ("--guidance", str(family.guidance), *(("--negative",) if family.negative else ()))
    tokens = ("--tokens", str(family.tokens)) if family.tokens else ()
    command = ("benchmarks.diffusers_pictures", str(place.source), *drawn, *told, *guided, *tokens)
    pictures = 3 * _PICTURES_OF_A_MODE * _SLOWER * family.picture_s
    return Part("diffusers", 360, command, about=2 * _OPENING + 2 * _COMPILING + pictures)


def run(part: Part, folder: Path, seconds: float) -> Outcome:
    """Run a part for at most so many seconds, and show what it prints."""
    if not part.command:
        return Outcome(NOT_THERE, part.reason, 0.0, None)
    output = folder / f"{part.name}.json"
    output.unlink(missing_ok=True)
    module, *arguments = part.command
    command = [sys.executable, "-m", module, *arguments, "--output", str(output)]
    began = time.monotonic()
    code, lines = _followed(command, seconds)
    took = time.monotonic() - began
    result = json.loads(output.read_text()) if output.is_file() else None
    if code == 0 and result is not None:
        return Outcome(RAN, "", took, result)
    if took >= seconds:
        reason = f"not done in {seconds:.0f} s"
    elif code == 0:
        reason = "ended without a result"
    else:
        reason = f"ended with code {code}: {lines[-1] if lines else 'it printed nothing'}"
    return Outcome(FAILED, reason, took, result, lines)


def _followed(command: Sequence[str], seconds: float) -> tuple[int, list[str]]:
    """Run a command in a group of processes that ends with it; its code, and its last lines."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": "2"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    limit = threading.Timer(seconds, end, (process,))
    limit.daemon = True
    limit.start()
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    assert process.stdout is not None
    try:
        with process.stdout:
            for line in process.stdout:
                print(f"    {line}", end="", flush=True)
                if line.strip():
                    lines.append(line.strip()[:500])
        return process.wait(), list(lines)
    finally:
        limit.cancel()
        # A part may leave processes behind; and after an interruption it runs itself.
        _signal(process, signal.SIGKILL)


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process and all processes of its group, by a request first."""
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    _signal(process, signal.SIGKILL)


def _signal(process: "subprocess.Popen[Any]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
