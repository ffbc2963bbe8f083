"""Serving of a model: what draws it, what is prepared for it meanwhile, and the server over it.

`calotype serve` imports this module once the worker's process has been started.
"""

from collections.abc import Callable

from api.keys import KeyFile, KeysError
from api.places import chosen_gpus, places
from api.preparation import missing_target, unverified_target
from api.server import serve
from api.settings import Settings
from runtime.backends.catalog import choose
from runtime.backends.opened_files import opened_files
from runtime.files import read_ahead
from runtime.jobs.process import WorkerProcess
from runtime.plan.model import open_model


def serve_model(settings: Settings, worker: WorkerProcess, announce: Callable[[str], None]) -> None:
    """Serve the settings' model until told to stop, at first by `worker`, a process that waits for
    its options. `announce` is called with the address.

    Raises CalotypeError; a model or a backend that is not there is refused before the port is
    opened.
    """
    keys = keys_of(settings)
    model = open_model(settings.engines, settings.model, anew=settings.verify_files)
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
    serve(
        settings,
        model,
        announce=announce,
        places=places(gpus, settings.workers, choice),
        keys=keys,
        preparation=preparation,
        worker=worker,
    )


def keys_of(settings: Settings) -> KeyFile | None:
    """The keys of callers; None where nobody needs one. Raises KeysError where one is needed and
    there is none.
    """
    if not settings.takes_keys:
        return None
    keys = KeyFile(settings.data)
    if not keys.all():
        raise KeysError(
            f"{settings.host} is reached by other machines, or --keys was given, and there is no "
            f"API key in {keys.path}: make one with `calotype keys create NAME`, or say --no-keys "
            "to serve whoever reaches it"
        )
    return keys
