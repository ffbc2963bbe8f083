"""A log line for every answer, where the settings ask for it (`--access-log`)."""

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class LogRequests:
    """Middleware that logs each answer when it begins, under its route's path: an address may hold
    what is nobody else's business.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()

        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                _log(scope, message["status"], perf_counter() - began)
            await send(message)

        await self._app(scope, receive, logged)


def _log(scope: Scope, status: int, seconds: float) -> None:
    fields = {
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", "unknown"),
        "status": status,
        "ms": round(seconds * 1000, 2),
    }
    job_id = scope.get("path_params", {}).get("job_id")
    logger.info("request", extra=fields | ({"job_id": job_id} if job_id else {}))
