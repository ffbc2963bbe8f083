"""A plain server of diffusers' pipeline, written in the usual way, to be compared with.

    python -m benchmarks.plain_server DIFFUSERS_FOLDER --port 8001 --batch 2

FastAPI, one queue and one worker thread, which draws in inference mode and was warmed up before the
server is ready. Requests that wait and have size, steps and guidance in common are
drawn in one call, `--batch` of them at most. The answer to a request is its PNG.
"""

import argparse
import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated

import torch
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.diffusers_pipeline import call, opened
from runtime.machine import usable_cores


class Wish(BaseModel):
    """Request for a picture; further fields, which other servers read, are ignored."""

    model_config = ConfigDict(extra="ignore")

    prompt: str
    width: Annotated[int, Field(ge=64, le=2048)]
    height: Annotated[int, Field(ge=64, le=2048)]
    steps: Annotated[int, Field(ge=1, le=200)]
    seed: int = 0
    cfg_scale: float = 5.0

    @property
    def alike(self) -> tuple[object, ...]:
        """Fields that pictures of one call have in common."""
        return (self.width, self.height, self.steps, self.cfg_scale)


class Painter:
    """Worker thread with the pipeline, and the queue of the requests that wait for it."""

    def __init__(self, source: Path, threads: int, batch: int) -> None:
        self._pipeline = opened(source)
        self._threads = threads
        self._batch = batch
        self._waiting: queue.SimpleQueue[tuple[Wish, Future[bytes]]] = queue.SimpleQueue()
        self._put_back: list[tuple[Wish, Future[bytes]]] = []
        threading.Thread(target=self._run, name="painter", daemon=True).start()

    def paint(self, wish: Wish) -> "Future[bytes]":
        """Queue a request; its PNG once that is drawn."""
        future: Future[bytes] = Future()
        self._waiting.put((wish, future))
        return future

    def _run(self) -> None:
        # PyTorch keeps the number for each thread that calls it.
        torch.set_num_threads(self._threads)
        while True:
            batch = self._next_batch()
            try:
                images = call(self._pipeline, [wish.model_dump() for wish, _ in batch])
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), image in zip(batch, images, strict=True):
                buffer = BytesIO()
                image.save(buffer, "PNG")
                future.set_result(buffer.getvalue())

    def _next_batch(self) -> list[tuple[Wish, "Future[bytes]"]]:
        """The request that waited longest, and those that can be drawn with it."""
        waiting = self._put_back or [self._waiting.get()]
        while not self._waiting.empty():
            waiting.append(self._waiting.get())
        first = waiting[0][0]
        batch = [each for each in waiting if each[0].alike == first.alike][: self._batch]
        self._put_back = [each for each in waiting if each not in batch]
        return batch


def application(painter: Painter, first: Wish) -> FastAPI:
    """The server's application; it is ready once the first picture is drawn."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.wrap_future(painter.paint(first))
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/generate")
    async def generate(wish: Wish) -> Response:
        return Response(await asyncio.wrap_future(painter.paint(wish)), media_type="image/png")

    return app


def main() -> None:
    """Serve until stopped."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("source", type=Path, metavar="DIFFUSERS_FOLDER")
    flags.add_argument("--port", type=int, default=8001, help="default: 8001")
    flags.add_argument("--batch", type=int, default=1, metavar="N", help="default: 1")
    flags.add_argument("--threads", type=int, metavar="N", help="of PyTorch; default: one a core")
    flags.add_argument(
        "--warm-size", type=int, default=128, metavar="PIXELS", help="of the first picture"
    )
    arguments = flags.parse_args()
    painter = Painter(arguments.source, arguments.threads or len(usable_cores()), arguments.batch)
    size = arguments.warm_size
    app = application(painter, Wish(prompt="warm up", width=size, height=size, steps=2))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
