"""HTTP server: uvicorn over the app, with a shutdown that does not wait for open streams."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import cast

import uvicorn

from api.access import Access
from api.app import create_app
from api.http_protocol import ConnectionLimits, HttpProtocol
from api.services import Services

GRACE_SECONDS = 5
"""Time that a stopping server waits for clients that do not read their answers."""


class HttpServer(uvicorn.Server):
    """A uvicorn server that announces its start and ends its streams before a shutdown."""

    def __init__(
        self,
        services: Services,
        access: Access,
        limits: ConnectionLimits,
        opened: Callable[[], None],
        stopping: Callable[[], None],
        *,
        access_log: bool = False,
    ) -> None:
        """Nothing is opened yet. `opened` is called once the sockets are open, and `stopping`
        before the server waits for its clients.
        """
        refused = partial(services.metrics.refused, "connections")
        protocol = partial(HttpProtocol, limits=limits, refused=refused)
        config = uvicorn.Config(
            create_app(services, access, access_log=access_log),
            http=cast("type[asyncio.Protocol]", protocol),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Settings of ours say what of X-Forwarded-* is believed.
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
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
        signals = [signal.SIGINT, signal.SIGTERM]
        # Under nohup it is ignored, and has to stay so.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signals.append(signal.SIGHUP)
        for each in signals:
            loop.add_signal_handler(each, self.handle_exit, each, None)
        try:
            yield
        finally:
            for each in signals:
                loop.remove_signal_handler(each)
