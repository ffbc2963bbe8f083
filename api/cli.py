"""The `calotype` command: draw a picture, look at a model, serve it."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from api.settings import SettingsError
from runtime.errors import CalotypeError, RequestError, in_one_line
from runtime.telemetry import disable_telemetry
from runtime.version import ShowVersion

COMMANDS = {
    "generate": "draw one picture on this machine",
    "info": "what a model takes",
    "serve": "serve a model over HTTP",
    "worker": "draw for a cluster of servers",
    "keys": "make, list and revoke API keys",
    "gallery": "rebuild the list of pictures from their files",
    "config": "the settings that serve would use, and where each came from",
}

FAILURE = 1
WRONG_USE = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong request."""
    disable_telemetry()
    arguments = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
    try:
        arguments.run(arguments)
    except RequestError as error:
        _report(*error.faults)
        return WRONG_USE
    except SettingsError as error:
        _report(error)
        return WRONG_USE
    except CalotypeError as error:
        _report(error)
        return FAILURE
    except OSError as error:
        _report(f"{error.filename or ''}: {error.strerror or error}")
        return FAILURE
    except KeyboardInterrupt:
        _report("interrupted; nothing was written")
        return INTERRUPTED
    return 0


def _report(*lines: object) -> None:
    for line in lines:
        print(f"calotype: {in_one_line(line)}", file=sys.stderr)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calotype", description="Text to image from compiled engines."
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        # Only the command that was asked for is imported: the server starts without a backend.
        if name in argv[:1]:
            module = importlib.import_module(f"api.commands.{name}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser
