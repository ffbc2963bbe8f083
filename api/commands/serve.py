"""`calotype serve`: serve a model over HTTP until told to stop."""

import argparse
import logging

from api.commands.settings_flags import add_settings_flags, settings_flags
from api.settings import read_settings
from runtime.jobs.process import WorkerProcess


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Serve a model over HTTP until told to stop. Flags win over variables."
    parser.epilog = "Example: calotype serve --model sdxl --compile"
    add_settings_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Serve. A model or a backend that is not there is refused before the port is opened."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = read_settings(settings_flags(arguments))
    # The server and its worker each import for half a second. So the worker's process is started
    # before the server's imports, and does nothing but import until it is given its options: after
    # all that can be refused.
    with WorkerProcess() as worker:
        from api.serving import serve_model

        serve_model(settings, worker, _announce)


def _announce(url: str) -> None:
    print(f"Calotype is at {url} (documentation: {url}/docs)", flush=True)
