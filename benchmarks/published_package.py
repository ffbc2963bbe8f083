"""Makes a package of published size with random weights, and its target, ready to be measured.

    python -m benchmarks.published_package sdxl --work FOLDER

writes a checkpoint into FOLDER/sources/, builds its package into FOLDER/engines/, compiles that for
ONNX Runtime's CUDA provider and verifies it. What is there already is kept. Building takes minutes,
so the package may be made on a machine without a GPU and travel without its weights:

    python -m benchmarks.published_package sdxl --work FOLDER --hollow

drops all numbers at the end; without `--hollow` the same command writes them again, wherever FOLDER
was carried, and compiles there. A package made with `--in-place` reads the checkpoint's own files,
so that its FOLDER must be at the same path there. With `--gpu sm_90` a machine without that GPU
compiles the target too, on its CPU: the compiler draws its reference, measures the activations that
decide the decoders' precision, and checks every graph, which takes an hour for one of published
size (`engine_build.target.compile`).

Random weights may fail verification, or it takes too long: the target is then put into service for
timing alone. Its record keeps each error that was measured under a tolerance that no error exceeds;
a role that was not checked has an error of -1. `engine-build targets` calls such a target verified,
and this result does not: `timing_alone` names those roles, and `not_verified_because` the reason.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import write
from benchmarks.random_weights import empty, fill_hollow, weights_of
from runtime.backends.devices import find_devices
from runtime.package.engine_record import EngineCheck
from runtime.package.target import Target, read_target, target_directories, write_target

BACKEND = "onnxruntime-cuda"
VERIFY_SECONDS = 150.0
"""Limit for the verification."""
ANY_ERROR = 1e30
"""Tolerance of a role that is in service for timing alone."""
NOT_MEASURED = -1.0
"""Error of a role that is in service and was never checked."""


def main() -> None:
    """Make what is missing; the result is written after each step."""
    arguments = _parser().parse_args()
    if arguments.tiny and arguments.hollow:
        raise SystemExit("--hollow: a tiny model's weights are not made of names; leave --tiny out")
    arguments.work.mkdir(parents=True, exist_ok=True)
    source = arguments.work / "sources" / arguments.model
    engines = arguments.work / "engines"
    result: dict[str, Any] = {"model": arguments.model, "tiny": arguments.tiny, "seconds": {}}

    def keep() -> None:
        if arguments.output:
            write(result, arguments.output)

    @contextmanager
    def step(title: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        result["seconds"][title] = round(time.monotonic() - began, 1)
        print(f"{title}: {result['seconds'][title]} s", flush=True)
        keep()

    with step("checkpoint"):
        _write_source(source, arguments.model, tiny=arguments.tiny)
        result["weights_gb"] = round(_size(source) / 1e9, 3)
    with step("package"):
        result["build"] = _build(source, engines, arguments.model, in_place=arguments.in_place)
    if gpus := arguments.gpu or _gpu_here():
        with step("target"):
            result["target"] = _target(engines, arguments.model, gpus, arguments.size)
    if arguments.hollow:
        for path in (*weights_of(source), *weights_of(engines)):
            empty(path)
    keep()


def _write_source(folder: Path, name: str, *, tiny: bool) -> None:
    if (folder / "model_index.json").is_file():
        fill_hollow(folder)
        return
    # Here, since a folder that is there is filled without PyTorch and diffusers.
    from benchmarks.real_size import MODELS, write_model

    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    if tiny:
        MODELS[name].save_tiny(unfinished)
    else:
        write_model(name, unfinished)
    unfinished.rename(folder)


def _build(
    source: Path, engines: Path, name: str, *, in_place: bool
) -> list[dict[str, Any]] | None:
    """Steps of the build, with seconds and memory; None where the package was there."""
    if (engines / name / "manifest.json").is_file():
        fill_hollow(engines / name)
        return None
    from benchmarks.build_memory import measure

    flags = ["--in-place"] if in_place else []
    steps = [asdict(each) for each in measure(source, engines, name, flags)]
    if not in_place:
        # LoRAs are drawn on the CPU by graphs of their own.
        _engine_build("lora", "prepare", "--model", name, engines=engines)
    return steps


def _target(engines: Path, name: str, capability: str, size: int) -> dict[str, Any]:
    """Compile and verify where that is still to be done; the state of the target."""
    found = _found(engines / name, capability)
    failed = ""
    if found is None:
        flags = ("--backend", BACKEND, "--sizes", f"{size}x{size}", "--gpu", capability)
        failed = _tried(lambda: _engine_build("compile", name, *flags, engines=engines))
        found = _found(engines / name, capability)
        if found is None:
            raise SystemExit(f"{name}: no target for {capability}: {failed}")
    here = _gpu_here() == capability
    if here and not found.record.verified and not failed:
        arguments = ("verify", name, found.name)
        failed = _tried(lambda: _engine_build(*arguments, engines=engines, seconds=VERIFY_SECONDS))
        found = read_target(found.path)
    if here and not found.record.verified:
        print(f"{found.name}: not verified, in service for timing alone: {failed}", flush=True)
        found = _put_into_service(found)
    elif timing_alone(found):
        failed = "an earlier call put it into service for timing alone"
    return {
        "name": found.name,
        "verified": found.record.verified and not timing_alone(found),
        "not_verified_because": failed,
        "timing_alone": timing_alone(found),
        "checks": {
            role: None if each.check is None else asdict(each.check)
            for role, each in found.record.engines.items()
        },
    }


def timing_alone(target: Target) -> list[str]:
    """Roles whose engines are served though they passed no check."""
    return [
        role
        for role, each in target.record.engines.items()
        if each.check is not None and each.check.tolerance == ANY_ERROR
    ]


def _found(package: Path, capability: str) -> Target | None:
    targets = map(read_target, target_directories(package))
    return next(
        (
            each
            for each in targets
            if each.record.identity.compute_capability == capability
            and each.record.identity.backend == BACKEND
        ),
        None,
    )


def _put_into_service(target: Target) -> Target:
    """Let a target that did not pass be served: its times are as good as those of another."""
    engines = {
        role: replace(each, check=_served(each.check))
        for role, each in target.record.engines.items()
    }
    write_target(target.path, replace(target.record, engines=engines))
    return read_target(target.path)


def _served(check: EngineCheck | None) -> EngineCheck:
    """The check of a role in service: errors as they were measured."""
    if check is None:
        return EngineCheck(NOT_MEASURED, ANY_ERROR, outputs={})
    return check if check.passed else replace(check, tolerance=ANY_ERROR)


def _tried(work: Callable[[], None]) -> str:
    """Reason why the work failed, or an empty string."""
    try:
        work()
    except subprocess.SubprocessError as error:
        return str(error)
    return ""


def _engine_build(*arguments: str, engines: Path, seconds: float | None = None) -> None:
    command = [sys.executable, "-m", "engine_build", *arguments, "--engines", str(engines)]
    subprocess.run(command, check=True, timeout=seconds)


def _gpu_here() -> str | None:
    first = find_devices().first
    return None if first is None else first.compute_capability


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in weights_of(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a name of benchmarks.real_size, which is the package's too")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--size", type=int, default=1024, help="of a side; default: 1024")
    parser.add_argument("--gpu", metavar="sm_90", help="default: that of this machine, or none")
    parser.add_argument("--tiny", action="store_true", help="the tests' tiny model of the family")
    parser.add_argument(
        "--in-place", action="store_true", help="leave the weights in the checkpoint: no LoRAs"
    )
    parser.add_argument("--hollow", action="store_true", help="drop all weights at the end")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: none")
    return parser


if __name__ == "__main__":
    main()
