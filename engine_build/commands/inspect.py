"""`engine-build inspect`: a package or a target described, and every hash checked."""

import argparse

from engine_build.commands.arguments import add_engines, add_verify_files, describe, package_name
from runtime.package.manifest import load_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    describe(
        parser,
        "Say what is in a model package, or in one of its targets, and check the hash of every "
        "file.",
        "engine-build inspect sdxl",
        "engine-build inspect sdxl tensorrt-11.4.0-sm_89-fp16-0a1b2c3d",
    )
    parser.add_argument("name", metavar="NAME", type=package_name, help="the package's name")
    parser.add_argument(
        "target", metavar="TARGET", nargs="?", help="one of its targets; default: the package"
    )
    add_engines(parser)
    add_verify_files(parser)


def run(options: argparse.Namespace) -> None:
    """Print the description."""
    package = load_package(options.engines, options.name, anew=options.verify_files)
    if options.target is None:
        from engine_build.package.report import describe

        print(describe(package))
    else:
        from engine_build.target.compile import find_target
        from engine_build.target.report import describe_target

        print(describe_target(package, find_target(package, options.target)))
