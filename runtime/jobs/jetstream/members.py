"""The servers of a cluster that live: each says all the time that it does, and what it serves."""

import asyncio
import json
from collections.abc import Mapping, Set
from time import monotonic

from runtime.jobs.jetstream.journal import Journal

ALIVE, HELLO = "alive", "hello"
HELLO_SECONDS = 0.3
"""Time in which all that live have answered a server that begins."""
_SERVER = "Server"


class Members:
    """Who lives, as this server has heard."""

    def __init__(self, journal: Journal, server: str, model: str, seconds: float) -> None:
        """`seconds` of silence after which a server counts as gone."""
        self._journal = journal
        self._server = server
        self._model = model
        self._seconds = seconds
        self._heard: dict[str, float] = {}
        self._models: dict[str, str] = {}
        self._began = monotonic()
        self._answers: set[asyncio.Task[None]] = set()

    async def open(self) -> asyncio.Task[None]:
        """Ask who lives, wait for the answers, and begin to say so too; the task ends by being
        canceled.
        """
        await self._journal.hear(ALIVE, self._alive)
        await self._journal.hear(HELLO, self._hello)
        await self._journal.tell(HELLO, b"", {_SERVER: self._server})
        await asyncio.sleep(HELLO_SECONDS)
        return asyncio.create_task(self._say_so())

    @property
    def models(self) -> Set[str]:
        """The models that are served now."""
        return {self._model, *(self._models[name] for name in self._heard if self._lives(name))}

    def gone(self, server: str) -> bool:
        """True for a server that was silent for too long."""
        return server != self._server and not self._lives(server)

    def _lives(self, server: str) -> bool:
        # One that was never heard of has as long as this server listens.
        return monotonic() - self._heard.get(server, self._began) < self._seconds

    async def _say_so(self) -> None:
        while True:
            await self._answer()
            await asyncio.sleep(self._seconds / 4)

    async def _answer(self) -> None:
        content = json.dumps({"model": self._model}).encode()
        await self._journal.tell(ALIVE, content, {_SERVER: self._server})

    def _alive(self, _: str, content: bytes, headers: Mapping[str, str]) -> None:
        self._heard[headers[_SERVER]] = monotonic()
        self._models[headers[_SERVER]] = json.loads(content)["model"]

    def _hello(self, _: str, _content: bytes, headers: Mapping[str, str]) -> None:
        if headers[_SERVER] != self._server:
            task = asyncio.create_task(self._answer())
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
