"""`engine-build targets`: what a package was compiled for."""

import argparse

from engine_build.commands.arguments import add_engines, describe, package_name
from engine_build.target.report import targets_table
from runtime.package.manifest import read_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    describe(
        parser,
        "List the targets of a package: what each was compiled for, and whether it may be served.",
        "engine-build targets sdxl",
    )
    parser.add_argument("name", metavar="NAME", type=package_name, help="the package's name")
    add_engines(parser)


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    print(targets_table(read_package(options.engines, options.name)))
