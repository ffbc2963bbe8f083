"""Server process: broker, supervisor and HTTP, opened in this order and closed in reverse."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import uvicorn
import uvloop

from api.app import create_app
from api.http_protocol import HttpProtocol
from api.metrics import Metrics
from api.preparation import Preparation
from api.services import Services
from api.settings import Settings
from runtime.errors import CalotypeError
from runtime.gallery import Gallery
from runtime.jobs.local import LocalBroker
from runtime.jobs.supervisor import Supervisor
from runtime.plan.model import Model

GRACE_SECONDS = 5
"""Time that a stopping server waits for clients that do not read their answers."""


class CannotListen(CalotypeError):
    """The address cannot be listened on."""


def serve(
    settings: Settings,
    model: Model,
    announce: Callable[[str], None],
    preparation: Preparation | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called with the address once that is open.

    With a `preparation`, the best backend that can run serves until the wanted one is ready.

    Raises CannotListen; WorkerFailed when nothing can be served; CalotypeError when the data
    directory cannot be used.
    """
    with (
        _listen(settings.host, settings.port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, model, listener, announce, preparation))


async def _serve(
    settings: Settings,
    model: Model,
    listener: socket.socket,
    announce: Callable[[str], None],
    preparation: Preparation | None,
) -> None:
    broker = LocalBroker(
        settings.data,
        model.name,
        queue_limit=settings.queue_limit,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
    )
    options = settings.worker
    if preparation:
        options = options.drawn_by("auto")
    async with broker, Supervisor(broker, options) as supervisor:
        app = create_app(
            Services(
                model=model,
                broker=broker,
                workers=supervisor,
                files=Gallery(settings.data),
                metrics=Metrics(),
            ),
            settings.access,
        )
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Settings of ours say what of X-Forwarded-* is believed.
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        url = _url(settings.host, listener)
        server = _Server(config, lambda: announce(url), broker.end_streams)
        async with preparation.beside(supervisor) if preparation else nullcontext():
            await _until_stopped(server, listener, supervisor)


async def _until_stopped(
    server: "_Server", listener: socket.socket, supervisor: Supervisor
) -> None:
    """Answer until a signal comes, or until it is certain that no worker can start."""
    failure = asyncio.create_task(supervisor.failure())
    failure.add_done_callback(lambda _: server.end())
    try:
        await server.serve([listener])
        if failure.done():
            raise failure.result()
    finally:
        failure.cancel()


class _Server(uvicorn.Server):
    """A uvicorn server that announces its start and ends its streams before a shutdown."""

    def __init__(
        self, config: uvicorn.Config, opened: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._opened = opened
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the sockets, then call `opened`."""
        await super().startup(sockets)
        self._opened()

    def end(self) -> None:
        """Stop soon. Streams end first: an open stream would delay the stop without end."""
        self._stopping()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on a signal."""
        self.end()
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals through the event loop while the server runs.

        uvicorn's own version raises the signal again once the server has stopped, which would end
        the process with broker and supervisor still open.
        """
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for each in signals:
            loop.add_signal_handler(each, self.handle_exit, each, None)
        try:
            yield
        finally:
            for each in signals:
                loop.remove_signal_handler(each)


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
