"""The settings of a server as flags of the command line, one for each field of `Settings`."""

import argparse

from api.settings import Settings, flag, variable

_METAVARS = {"engines": "DIR", "data": "DIR"} | dict.fromkeys(
    ("max_batch", "queue_limit", "max_attempts", "keep_jobs", "keep_pictures"), "N"
)
"""Placeholders in the help, where the last word of a name would not describe the value."""


def add_settings_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting. Its value stays text: `Settings` alone reads values."""
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"; default: {field.default}"
        text = f"{field.description} ({variable(name)}{default})"
        if field.annotation is bool:
            parser.add_argument(
                flag(name),
                dest=name,
                action="store_const",
                const=str(not field.default).lower(),
                default=argparse.SUPPRESS,
                help=text,
            )
            continue
        parser.add_argument(
            flag(name),
            dest=name,
            metavar=_METAVARS.get(name, name.split("_")[-1].upper()),
            default=argparse.SUPPRESS,
            help=text,
        )


def settings_flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The settings that were given by flag."""
    return {name: text for name, text in vars(arguments).items() if name in Settings.model_fields}
