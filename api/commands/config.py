"""`calotype config`: the settings that serve would use, with their origins."""

import argparse

from api.commands.settings_flags import add_settings_flags, settings_flags
from api.settings import origin, read_settings, variable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags, which are those of `serve`."""
    parser.description = "Print the settings that serve would use, and where each came from."
    add_settings_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print one setting a line, as the environment would set it."""
    flags = settings_flags(arguments)
    for name, value in read_settings(flags):
        text = "" if value is None else value
        print(f"{variable(name)}={text}  # {origin(name, flags)}")
