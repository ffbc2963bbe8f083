"""`calotype worker`: draw for a cluster, with no HTTP, until told to stop."""

import argparse

from api.commands.serve import logged_end
from api.commands.settings_flags import add_settings_flags, settings_flags
from api.settings import read_settings
from runtime.jobs.process import WorkerProcess
from runtime.logs import logging_to_stderr


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Draw the jobs of a cluster until told to stop. The flags are those of serve; those about "
        "HTTP have no effect here."
    )
    parser.epilog = "Example: calotype worker --broker nats://10.0.0.5:4222 --model sdxl --gpus all"
    add_settings_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Draw. A model, a backend or a cluster that is not there is refused."""
    settings = read_settings(settings_flags(arguments))
    with WorkerProcess() as worker, logging_to_stderr(settings.logs, "server"), logged_end():
        from api.serving import work

        work(settings, worker, lambda words: print(words, flush=True))
