"""`engine-build verify`: a target against ONNX Runtime, on the GPU that it is for."""

import argparse

from engine_build.commands.arguments import add_engines, package_name
from engine_build.compile import find_target
from runtime.devices import find_devices
from runtime.errors import BuildError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Compare every engine of a target with ONNX Runtime on the inputs of a real picture, and "
        "write errors and times into its record. Only a target that passes is served."
    )
    parser.add_argument("name", metavar="NAME", type=package_name, help="the package's name")
    parser.add_argument("target", metavar="TARGET", help="as `engine-build targets` lists it")
    add_engines(parser)


def run(options: argparse.Namespace) -> None:
    """Verify it, and print what was measured."""
    target = find_target(options.engines, options.name, options.target)
    devices = find_devices()
    wanted = target.record.identity.compute_capability
    here = devices.first
    if here is None or here.compute_capability != wanted:
        found = devices.reason if here is None else f"this machine has {here}"
        raise BuildError(f"{target.name}: verified only on a GPU of {wanted}, and {found}")
