"""`calotype serve`: serve a model over HTTP until told to stop."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from api.commands.settings_flags import add_settings_flags, settings_flags
from api.settings import read_settings
from runtime.errors import CalotypeError
from runtime.jobs.process import WorkerProcess
from runtime.logs import logging_to_stderr

UNFORESEEN = 1

logger = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Serve a model over HTTP until told to stop. Flags win over variables."
    parser.epilog = "Example: calotype serve --model sdxl --compile"
    add_settings_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Serve. A model or a backend that is not there is refused before the port is opened."""
    settings = read_settings(settings_flags(arguments))
    # The server and its worker each import for half a second. So the worker's process is started
    # before the server's imports, and does nothing but import until it is given its options: after
    # all that can be refused.
    worker_process = WorkerProcess() if settings.workers else nullcontext()
    with worker_process as worker, logging_to_stderr(settings.logs, "server"), logged_end():
        from api.serving import serve_model

        serve_model(settings, worker, _announce)


@contextmanager
def logged_end() -> Iterator[None]:
    """An end that nobody foresaw becomes a log line in the place of a traceback."""
    try:
        yield
    except (CalotypeError, OSError):
        raise  # The command says these in a line.
    except Exception:
        logger.critical("the server has to end: an error of ours", exc_info=True)
        raise SystemExit(UNFORESEEN) from None


def _announce(url: str) -> None:
    print(f"Calotype is at {url} (documentation: {url}/docs)", flush=True)
