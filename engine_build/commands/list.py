"""`engine-build list`: the packages in an engines folder."""

import argparse

from engine_build.commands.arguments import add_engines, describe
from engine_build.package.report import table


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    describe(
        parser,
        "List the model packages, a line each.",
        "engine-build list --engines engines",
    )
    add_engines(parser)


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    print(table(options.engines))
