"""The flags that name the model of a command and the folder of its package."""

import argparse
from pathlib import Path

from runtime.files import ENGINES, engines_folder


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--model` and `--engines`."""
    parser.add_argument("--model", default="demo", help="the package's name (default: %(default)s)")
    parser.add_argument(
        "--engines",
        type=Path,
        default=engines_folder(),
        help=f"the directory of model packages ({ENGINES}; default: %(default)s); "
        "the model demo comes with Calotype",
    )
