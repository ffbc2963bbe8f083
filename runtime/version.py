"""The flag `--version` of the commands."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any


class ShowVersion(argparse.Action):
    """Prints the command's name and the installed version, and ends with 0."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and end."""
        # Here, since to import it takes longer than all else that a command does at first.
        from importlib.metadata import version

        sys.stdout.write(f"{parser.prog} {version('calotype')}\n")
        parser.exit()
