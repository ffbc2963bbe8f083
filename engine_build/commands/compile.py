"""`engine-build compile`: engines of a package for a GPU."""

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from engine_build.commands.arguments import (
    add_engines,
    add_verify_files,
    describe,
    package_name,
    positive,
    size,
)
from engine_build.commands.verify import notice, verify_here
from runtime.backends.devices import Devices, Gpu, find_devices
from runtime.backends.rows import TARGET_BACKENDS, installed_backend, row_of
from runtime.errors import BackendError, BuildError
from runtime.package.backend_name import BackendName
from runtime.package.manifest import ModelPackage, Precision, load_package
from runtime.package.target import Target

if TYPE_CHECKING:
    from engine_build.target.compile import CompileRequest
    from engine_build.target.reference import Reference

_GPU = re.compile(r"sm_\d{2,3}")
NO_GPU = "a machine with no GPU"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    describe(
        parser,
        "Compile a package's graphs into engines for a GPU. What is finished is kept: the same "
        "command goes on where it was interrupted. Where the GPU is at hand the engines are "
        "verified against the package's own graphs; elsewhere `engine-build verify` does that.",
        "engine-build compile sdxl --sizes 1024x1024,832x1216",
        "engine-build compile demo --backend tensorrt-rtx --gpu sm_86,sm_89 --fixed-weights",
    )
    parser.add_argument("name", metavar="NAME", type=package_name, help="the package's name")
    _add_device(parser)
    _add_choices(parser)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_engines(parser)
    add_verify_files(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the backend and the GPUs."""
    parser.add_argument(
        "--backend",
        choices=[row.name for row in TARGET_BACKENDS],
        help="default: the first of these that is installed; tensorrt alone needs the GPU itself",
    )
    parser.add_argument(
        "--gpu",
        type=_gpus,
        default=(),
        metavar="auto|sm_86,sm_89,...",
        help="the compute capabilities to compile for; default: auto, this machine's GPU",
    )


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to compile."""
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="what networks compute in that may compute in 16 bits; default: as the package says, "
        "fp16 for SDXL and bf16 for Flux, Chroma and Z-Image",
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        metavar="WxH,...",
        help="the sizes of pictures, the one served most first; default: the package's own",
    )
    parser.add_argument(
        "--max-batch", type=positive, default=1, metavar="N", help="pictures at once; default: 1"
    )
    parser.add_argument(
        "--fixed-weights",
        action="store_true",
        help="compile weights in that cannot be replaced: such a target refuses LoRAs; the only "
        "kind of SDXL that tensorrt-rtx makes with no GPU at hand",
    )


def run(options: argparse.Namespace) -> None:
    """Compile for each GPU, one after the other, and verify for the one that is here."""
    # Here, since --help needs no library of a build.
    from engine_build.target.compile import CompileRequest
    from engine_build.target.profiles import Tuning
    from engine_build.target.report import narrowed, uncaptured
    from engine_build.target.targets import Wanted

    devices = find_devices()
    here = devices.first
    gpus = options.gpu or (gpu_at_hand(devices),)
    backend = options.backend or default_backend(*gpus)
    for gpu in gpus:
        if fault := row_of(backend).gpu_fault(gpu):
            raise BackendError(fault)
    package = load_package(options.engines, options.name, anew=options.verify_files)
    defaults = package.manifest.defaults
    sizes = options.sizes or ((defaults.width, defaults.height),)
    reference = _reference(package, sizes, gpus, devices, shown=not options.quiet)
    for gpu in gpus:
        wanted = Wanted(
            backend=backend,
            compute_capability=gpu,
            served=Tuning(sizes, options.max_batch),
            precision=options.precision,
            fixed_weights=options.fixed_weights,
        )
        request = CompileRequest(
            reference=reference,
            wanted=wanted,
            gpu_at_hand=None if here is None else here.compute_capability,
            machine=NO_GPU if here is None else str(here),
        )
        target = _compiled(request, here, quiet=options.quiet)
        verify = f"engine-build verify {options.name} {target.name}"
        state = "verified" if target.record.verified else f"not verified yet; on its GPU: {verify}"
        print(f"{target.name}: {state}")
        for line in (*narrowed(target), *uncaptured(target)):
            print(line)


def _reference(
    package: ModelPackage,
    sizes: Sequence[tuple[int, int]],
    gpus: Sequence[str],
    devices: Devices,
    *,
    shown: bool,
) -> "Reference":
    """The reference of the whole command; of the first size alone where nothing is verified."""
    from engine_build.target.reference import Reference, place_here

    here = devices.first
    verifies = here is not None and here.compute_capability in gpus
    distinct = tuple(dict.fromkeys(sizes))
    return Reference(
        package,
        distinct if verifies else distinct[:1],
        place_here(devices),
        tell=notice if shown else lambda _: None,
        show_progress=shown,
    )


def _compiled(request: "CompileRequest", here: Gpu | None, *, quiet: bool) -> Target:
    """The target, verified where its GPU is here. Raises BuildError."""
    from engine_build.target.compile import compile_target, nearest

    if (other := nearest(request)) and not quiet:
        notice(other)
    try:
        target = compile_target(request, show_progress=not quiet)
    except KeyboardInterrupt:
        raise BuildError(
            "interrupted; finished engines are kept, and the same command goes on behind them"
        ) from None
    if here is not None and request.gpu_is_here and not target.record.verified:
        return verify_here(request.reference, target, here)
    return target


def gpu_at_hand(devices: Devices) -> str:
    """The compute capability of this machine's GPU. Raises BuildError where there is none."""
    if devices.first is None:
        raise BuildError(
            f"--gpu auto: {devices.reason}; name the GPU that it is for, as in --gpu sm_89"
        )
    return devices.first.compute_capability


def default_backend(*gpus: str) -> BackendName:
    """The best installed backend that runs on all these GPUs. Raises BackendError for none."""
    backend = installed_backend(*gpus)
    if backend is None:
        libraries = " nor ".join(row.library for row in TARGET_BACKENDS)
        extras = " or ".join(row.extra for row in TARGET_BACKENDS)
        raise BackendError(
            f"neither {libraries} is installed; install one with: pip install {extras}"
        )
    return backend.name


def _gpus(text: str) -> tuple[str, ...]:
    if text == "auto":
        return ()
    names = tuple(text.split(","))
    for name in names:
        if not _GPU.fullmatch(name):
            raise argparse.ArgumentTypeError(
                f"{name!r} is no compute capability such as sm_89, nor auto"
            )
    return names


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(size(each) for each in text.split(","))
