"""Server process: broker, workers and HTTP, opened in this order and closed in reverse."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop

from api.brokers import broker_of
from api.keys import KeyFile
from api.preparation import Preparation
from api.settings import Settings
from runtime.errors import CalotypeError
from runtime.gallery import Gallery
from runtime.jobs.fleet import Fleet
from runtime.jobs.process import WorkerProcess
from runtime.plan.models import Models
from runtime.wire.options import Place

if TYPE_CHECKING:
    from api.http_server import HttpServer


class CannotListen(CalotypeError):
    """The address cannot be listened on."""


def serve(
    settings: Settings,
    models: Models,
    announce: Callable[[str], None],
    *,
    places: Sequence[Place] = (Place(),),
    keys: KeyFile | None = None,
    preparation: Preparation | None = None,
    worker: WorkerProcess | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; `announce` is called with the address once open.

    A worker draws at each of the `places`. With `keys`, callers need one. With a `preparation`, the
    best backend that can run serves until the wanted one is ready. `worker` is a process that was
    started ahead, which becomes the first worker.

    Raises CannotListen; WorkerFailed when nothing can be served; CalotypeError when the data
    directory cannot be used.
    """
    with (
        _listen(settings.host, settings.port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        serving = _serve(
            settings,
            models,
            listener,
            announce,
            places=places,
            keys=keys,
            preparation=preparation,
            worker=worker,
        )
        runner.run(serving)


async def _serve(
    settings: Settings,
    models: Models,
    listener: socket.socket,
    announce: Callable[[str], None],
    *,
    places: Sequence[Place],
    keys: KeyFile | None,
    preparation: Preparation | None,
    worker: WorkerProcess | None,
) -> None:
    broker = broker_of(settings, models.names)
    options = settings.worker
    if preparation:
        options = options.drawn_by("auto")
    placed = [replace(options, place=place) for place in places]
    async with broker, Fleet(broker, placed, worker) as fleet:
        # FastAPI and uvicorn take a third of a second to import: the worker, which has its options
        # now, opens the model meanwhile.
        from api.callers import Callers
        from api.connections import connection_bound
        from api.http_protocol import ConnectionLimits
        from api.http_server import HttpServer
        from api.metrics import Metrics
        from api.services import Services

        services = Services(
            models=models,
            broker=broker,
            workers=fleet,
            files=Gallery(settings.data),
            metrics=Metrics(),
            callers=Callers(settings.callers),
            keys=keys,
            dialects=settings.dialects,
            page=settings.page,
        )
        url = _url(settings.host, listener)
        limits = ConnectionLimits(
            connection_bound(settings.max_connections), settings.request_seconds
        )
        server = HttpServer(
            services,
            settings.access,
            limits,
            lambda: announce(url),
            broker.stop,
            access_log=settings.access_log,
        )
        async with preparation.beside(fleet) if preparation else nullcontext():
            await _until_stopped(server, listener, fleet)


async def _until_stopped(server: "HttpServer", listener: socket.socket, fleet: Fleet) -> None:
    """Answer until a signal comes, or until it is certain that no worker can start."""
    failure = asyncio.create_task(fleet.failure())
    failure.add_done_callback(lambda _: server.end())
    try:
        await server.serve([listener])
        if failure.done():
            raise failure.result()
    finally:
        failure.cancel()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} port {port}: {error.strerror}; "
            "choose others with --host and --port"
        ) from error


def _url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
