"""The servers of a cluster that live: each says all the time that it does, and what it serves."""

import asyncio
from collections.abc import Mapping, Set
from dataclasses import dataclass
from time import monotonic

from pydantic import TypeAdapter

from runtime.jobs.facts import EngineFacts
from runtime.jobs.jetstream.journal import Journal

ALIVE, HELLO = "alive", "hello"
HELLO_SECONDS = 0.3
"""Time in which all that live have answered a server that begins."""
_SERVER = "Server"


@dataclass(frozen=True, slots=True)
class Served:
    """A server's model."""

    model: str
    engine: EngineFacts | None
    """Of its workers; None where it has none that is ready."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A server, as it was heard last."""

    at: float
    served: Served


_SERVED = TypeAdapter(Served)


class Members:
    """Who lives, as this server has heard."""

    def __init__(self, journal: Journal, server: str, model: str, seconds: float) -> None:
        """`seconds` of silence after which a server counts as gone."""
        self._journal = journal
        self._server = server
        self._served = Served(model, None)
        self._seconds = seconds
        self._heard: dict[str, Heard] = {}
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

    def draws_with(self, engine: EngineFacts) -> None:
        """A worker of this server draws with this engine now."""
        self._served = Served(self._served.model, engine)
        self._answer_soon()

    @property
    def model(self) -> str:
        """This server's model."""
        return self._served.model

    @property
    def models(self) -> Set[str]:
        """The models that are served now."""
        return {self._served.model, *(heard.served.model for heard in self._living())}

    @property
    def engine(self) -> EngineFacts | None:
        """The engine of another server that draws the same model; None where none is known."""
        engines = (
            heard.served.engine
            for heard in self._living()
            if heard.served.model == self._served.model
        )
        return next(filter(None, engines), None)

    def gone(self, server: str) -> bool:
        """True for a server that was silent for too long."""
        # One that was never heard of has as long as this server listens.
        last = self._heard[server].at if server in self._heard else self._began
        return server != self._server and monotonic() - last >= self._seconds

    def _living(self) -> list[Heard]:
        return [heard for server, heard in self._heard.items() if not self.gone(server)]

    async def _say_so(self) -> None:
        while True:
            await self._answer()
            await asyncio.sleep(self._seconds / 4)

    async def _answer(self) -> None:
        await self._journal.tell(ALIVE, _SERVED.dump_json(self._served), {_SERVER: self._server})

    def _answer_soon(self) -> None:
        task = asyncio.create_task(self._answer())
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def _alive(self, _: str, content: bytes, headers: Mapping[str, str]) -> None:
        if headers[_SERVER] != self._server:
            self._heard[headers[_SERVER]] = Heard(monotonic(), _SERVED.validate_json(content))

    def _hello(self, _: str, _content: bytes, headers: Mapping[str, str]) -> None:
        if headers[_SERVER] != self._server:
            self._answer_soon()
