"""`calotype keys`: make, list and revoke API keys of a data folder."""

import argparse
from pathlib import Path

from api.commands.settings_flags import settings_flags
from api.keys import KeyFile, Scope, scope_named
from api.settings import read_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions."""
    parser.description = "Make, list and revoke API keys. A server that runs sees it at once."
    parser.epilog = "Example: calotype keys create painter --scope generate"
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    create = actions.add_parser("create", help="make a key and print it, this once")
    create.add_argument("name", metavar="NAME", help="what the key is for")
    create.add_argument(
        "--scope",
        default=Scope.GENERATE.word,
        choices=[scope.word for scope in Scope],
        help="read: look at jobs and pictures; generate: that, and submit and cancel jobs; "
        "admin: all, such as to delete pictures (default: %(default)s)",
    )
    create.add_argument(
        "--per-minute",
        metavar="N",
        type=_rate,
        help="pictures a minute that it may ask for, in place of the server's own bound "
        "(--pictures-per-minute)",
    )
    listing = actions.add_parser("list", help="the keys, without their secrets")
    revoke = actions.add_parser("revoke", help="let a key be valid no more")
    revoke.add_argument("name", metavar="NAME", help="the name that it was made with")
    for action in (create, listing, revoke):
        action.add_argument(
            "--data",
            metavar="DIR",
            default=argparse.SUPPRESS,
            help="the server's data folder (CALOTYPE_DATA; default: data)",
        )


def run(arguments: argparse.Namespace) -> None:
    """Do what was asked. Raises KeysError."""
    keys = KeyFile(Path(read_settings(settings_flags(arguments)).data))
    match arguments.action:
        case "create":
            print(keys.create(arguments.name, scope_named(arguments.scope), arguments.per_minute))
        case "revoke":
            keys.revoke(arguments.name)
        case _:
            for key in keys.all():
                rate = f"\t{key.rate} a minute" if key.rate else ""
                print(f"{key.name}\t{key.scope.word}\t{key.created_at}\tcalo_{key.id}_...{rate}")


def _rate(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 10**6):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of pictures, 1 to 1000000")
    return int(text)
