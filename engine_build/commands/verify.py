"""`engine-build verify`: a target against the package's own graphs, on the GPU that it is for."""

import argparse
import sys
from typing import TYPE_CHECKING

from engine_build.commands.arguments import add_engines, add_verify_files, describe, package_name
from engine_build.target.compile import find_target
from engine_build.target.report import describe_target
from runtime.backends.devices import Gpu, find_devices
from runtime.errors import BuildError
from runtime.package.manifest import check_files, read_package
from runtime.package.target import Target, tuned_sizes

if TYPE_CHECKING:
    from engine_build.target.reference import Reference


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    describe(
        parser,
        "Compare every engine of a target with the package's own graphs, run in fp32 "
        "on the same GPU, on the inputs of real pictures, and write errors and times into its "
        "record. Only a target that passes is served.",
        "engine-build verify sdxl tensorrt-11.4.0-sm_89-fp16-0a1b2c3d",
    )
    parser.add_argument("name", metavar="NAME", type=package_name, help="the package's name")
    parser.add_argument("target", metavar="TARGET", help="as `engine-build targets` lists it")
    add_engines(parser)
    add_verify_files(parser)


def verify_here(reference: "Reference", target: Target, gpu: Gpu) -> Target:
    """Verify a target on this machine's GPU."""
    # Here, since a listing needs no vendor's library.
    from engine_build.target.device import device_opener
    from engine_build.target.verify import verify_target

    return verify_target(reference, target, device_opener(reference.package, gpu))


def notice(sentence: str) -> None:
    """Print a sentence that is no result, on standard error."""
    print(f"engine-build: {sentence}", file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> None:
    """Verify the target, and print what was measured."""
    # Here, since --help needs no library of a build.
    from engine_build.target.reference import Reference, place_here

    package = read_package(options.engines, options.name)
    target = find_target(package, options.target)
    devices = find_devices()
    wanted = target.record.identity.compute_capability
    here = devices.first
    if here is None or here.compute_capability != wanted:
        found = devices.reason if here is None else f"this machine has {here}"
        raise BuildError(f"{target.name}: verified only on a GPU of {wanted}, and {found}")
    check_files(package, anew=options.verify_files)
    reference = Reference(
        package,
        tuned_sizes(target.record.identity, package.manifest),
        place_here(devices),
        tell=notice,
        show_progress=True,
    )
    print(describe_target(package, verify_here(reference, target, here)))
