"""A model, and the workers that draw it on this machine, by the settings."""

from dataclasses import dataclass

from api.places import PlacesError, chosen_gpus, places
from api.preparation import Preparation, missing_target, unverified_target
from api.settings import Settings
from runtime.backends.catalog import choose
from runtime.backends.opened_files import opened_files
from runtime.files import read_ahead
from runtime.plan.model import Model, open_model
from runtime.wire.options import Place


@dataclass(frozen=True, slots=True)
class Drawn:
    """A model, and the workers that draw it."""

    model: Model
    places: tuple[Place, ...]
    """One for each worker; none where a cluster's workers draw."""
    preparation: Preparation | None
    """A command that makes a better target ready meanwhile."""


def drawn_by(settings: Settings) -> Drawn:
    """The settings' model, and what draws it on this machine; its files are read ahead.

    Raises CalotypeError for a model, a backend or workers that cannot be had.
    """
    model = open_model(settings.engines, settings.model, anew=settings.verify_files)
    if not settings.workers:
        if settings.broker is None:
            raise PlacesError("--workers 0: nobody would draw; give --broker, whose workers do")
        return Drawn(model, (), None)
    devices, gpus = chosen_gpus(settings.gpu_wish)
    choice = preparation = None
    if settings.compile:
        preparation = missing_target(settings, model.package, devices)
    if preparation is None:
        preparation = unverified_target(settings, model.package, devices)
    if preparation is None:
        # The worker opens them once it has imported its modules.
        choice = choose(model.package, settings.backend, devices, settings.cpu_precision)
        read_ahead(opened_files(model.package, choice.target))
    return Drawn(model, places(gpus, settings.workers, choice), preparation)
