"""Serving of a model over HTTP, or to a cluster.

`calotype serve` and `calotype worker` import this once the worker's process has been started.
"""

from collections.abc import Callable

from api.drawn import drawn_by
from api.keys import KeyFile, KeysError
from api.places import PlacesError
from api.server import serve
from api.settings import Settings
from api.working import draw_for_cluster
from runtime.jobs.process import WorkerProcess


def serve_model(
    settings: Settings, worker: WorkerProcess | None, announce: Callable[[str], None]
) -> None:
    """Serve the settings' models until told to stop, at first by `worker`, a process that waits for
    its options. `announce` is called with the address.

    Raises CalotypeError; a model or a backend that is not there is refused before the port is
    opened.
    """
    keys = keys_of(settings)
    drawn = drawn_by(settings)
    serve(
        settings,
        drawn.models,
        announce=announce,
        places=drawn.places,
        keys=keys,
        preparation=drawn.preparation,
        worker=worker,
    )


def work(settings: Settings, worker: WorkerProcess, announce: Callable[[str], None]) -> None:
    """Draw the cluster's jobs for the settings' model until told to stop, at first by `worker`.
    `announce` is called with words for people once the cluster is reached. Raises CalotypeError.
    """
    if settings.broker is None:
        raise PlacesError(
            "a worker draws what a cluster keeps: give its addresses by --broker, such as "
            "nats://127.0.0.1:4222; one machine alone needs no more than calotype serve"
        )
    if not settings.workers:
        raise PlacesError("--workers 0: a worker that draws nothing; expected 1 or more")
    drawn = drawn_by(settings)
    draw_for_cluster(settings, drawn, worker, announce)


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
