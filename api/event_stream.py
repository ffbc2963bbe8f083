"""Response of Server-Sent Events: a task that tells them, and one that keeps the connection.

FastAPI's own takes four tasks, two queues and a timer for each event, which is five times what
writing it costs: too much where a thousand clients follow the gallery.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT
from starlette.types import Receive, Scope, Send

PING_SECONDS = 15.0
"""Silence after which a comment keeps proxies from closing the connection."""


class EventStream(Response):
    """A stream of frames, each as it comes, with comments where none comes for PING_SECONDS.

    It ends with the frames, or when the client goes; the frames are closed then.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes], ping_seconds: float = PING_SECONDS) -> None:
        """`frames`: one or more events each, as `fastapi.sse` writes them."""
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._ping_seconds = ping_seconds
        self._quiet = True

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send the frames until they end or the client goes."""
        async with aclosing(self._frames):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(send))
                attending = tasks.create_task(self._attend(receive, send))
                telling.add_done_callback(lambda _: attending.cancel())
                attending.add_done_callback(lambda _: telling.cancel())

    async def _tell(self, send: Send) -> None:
        async for frame in self._frames:
            self._quiet = False
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _attend(self, receive: Receive, send: Send) -> None:
        """Send comments into silence until the client goes."""
        while True:
            self._quiet = True
            try:
                async with asyncio.timeout(self._ping_seconds):
                    while (await receive())["type"] != "http.disconnect":
                        pass
            except TimeoutError:
                if self._quiet:
                    await send(
                        {"type": "http.response.body", "body": KEEPALIVE_COMMENT, "more_body": True}
                    )
            else:
                return
