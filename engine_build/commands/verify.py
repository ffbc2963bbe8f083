"""`engine-build verify`: a target against ONNX Runtime, on the GPU that it is for."""

import argparse
from pathlib import Path

from engine_build.commands.arguments import add_engines, describe, package_name
from engine_build.compile import find_target
from engine_build.target_report import describe_target
from runtime.devices import Gpu, find_devices
from runtime.errors import BuildError
from runtime.manifest import load_package
from runtime.target import Target


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    describe(
        parser,
        "Compare every engine of a target with ONNX Runtime on the inputs of a real picture, and "
        "write errors and times into its record. Only a target that passes is served.",
        "engine-build verify sdxl tensorrt-11.4.0-sm_89-fp16-0a1b2c3d",
    )
    parser.add_argument("name", metavar="NAME", type=package_name, help="the package's name")
    parser.add_argument("target", metavar="TARGET", help="as `engine-build targets` lists it")
    add_engines(parser)


def verify_here(engines: Path, name: str, target: Target, gpu: Gpu) -> Target:
    """Verify a target on this machine's GPU."""
    # Here, since a listing needs no vendor's library.
    from engine_build.device import device_opener
    from engine_build.verify_target import verify_target

    return verify_target(engines, name, target, device_opener(load_package(engines, name), gpu))


def run(options: argparse.Namespace) -> None:
    """Verify it, and print what was measured."""
    target = find_target(options.engines, options.name, options.target)
    devices = find_devices()
    wanted = target.record.identity.compute_capability
    here = devices.first
    if here is None or here.compute_capability != wanted:
        found = devices.reason if here is None else f"this machine has {here}"
        raise BuildError(f"{target.name}: verified only on a GPU of {wanted}, and {found}")
    verify_here(options.engines, options.name, target, here)
    print(describe_target(options.engines, options.name, options.target))
