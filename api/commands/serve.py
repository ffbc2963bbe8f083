"""`calotype serve`: serve a model over HTTP until told to stop."""

import argparse
import logging

from api.commands.settings_flags import add_settings_flags, settings_flags
from api.preparation import missing_target, unverified_target
from api.server import serve
from api.settings import read_settings
from runtime.backends.catalog import choose
from runtime.backends.devices import find_devices
from runtime.backends.opened_files import opened_files
from runtime.files import read_ahead
from runtime.plan.model import open_model


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
    model = open_model(settings.engines, settings.model, anew=settings.verify_files)
    devices = find_devices()
    preparation = None
    if settings.compile:
        preparation = missing_target(settings, model.package, devices)
    if preparation is None:
        preparation = unverified_target(settings, model.package, devices)
    if preparation is None:
        # The worker opens them once its process has started.
        choice = choose(model.package, settings.backend, devices, settings.cpu_precision)
        read_ahead(opened_files(model.package, choice.target))
    serve(settings, model, announce=_announce, preparation=preparation)


def _announce(url: str) -> None:
    print(f"Calotype is at {url} (documentation: {url}/docs)", flush=True)
