"""The models, and the workers that draw them on this machine, by the settings."""

from dataclasses import dataclass

from api.places import PlacesError, chosen_gpus, places
from api.preparation import Preparation, missing_target, unverified_target
from api.settings import Settings
from runtime.backends.catalog import choose
from runtime.backends.opened_files import opened_files
from runtime.files import read_ahead
from runtime.plan.model import open_model
from runtime.plan.models import Models
from runtime.wire.options import Place


@dataclass(frozen=True, slots=True)
class Drawn:
    """The models, and the workers that draw them."""

    models: Models
    places: tuple[Place, ...]
    """One for each worker; none where a cluster's workers draw."""
    preparation: Preparation | None
    """A command that makes a better target ready meanwhile."""


def drawn_by(settings: Settings) -> Drawn:
    """The settings' models, and what draws them on this machine; the first's files are read ahead.

    Raises CalotypeError for a model, a backend or workers that cannot be had.
    """
    models = Models.of(
        *(
            open_model(settings.engines, name, anew=settings.verify_files)
            for name in settings.models
        )
    )
    model = models.default
    if not settings.workers:
        if settings.broker is None:
            raise PlacesError("--workers 0: nobody would draw; give --broker, whose workers do")
        return Drawn(models, (), None)
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
    for other in (each for each in models if each is not model):
        choose(other.package, settings.backend, devices, settings.cpu_precision)
    return Drawn(models, places(gpus, settings.workers, choice), preparation)
