"""`engine-build inspect`: what is in a package, and whether it is whole."""

import argparse

from engine_build.commands.arguments import add_engines, package_name
from engine_build.report import describe


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Say what is in a model package, and check the hash of every file."
    parser.add_argument("name", metavar="NAME", type=package_name, help="the package's name")
    add_engines(parser)


def run(options: argparse.Namespace) -> None:
    """Print it."""
    print(describe(options.engines, options.name))
