"""Steps of jobs and their previews, told to all servers by plain messages that nobody keeps."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress

from runtime.jobs.board import Board
from runtime.jobs.jetstream.journal import Journal
from runtime.jobs.worker_side import StaleLease

STEPS = "steps."
_HOLDER, _STEP, _SECONDS, _SERVER = "Holder", "Step", "Seconds", "Server"


class Steps:
    """Tells the other servers of the steps that this one's workers make, and hears theirs."""

    def __init__(self, journal: Journal, board: Board, server: str) -> None:
        """`server` is the name of this one."""
        self._journal = journal
        self._board = board
        self._server = server
        self._telling: asyncio.Queue[tuple[str, bytes, Mapping[str, str]]] = asyncio.Queue()

    async def open(self) -> asyncio.Task[None]:
        """Begin to tell and to hear; the task ends by being canceled."""
        await self._journal.hear(f"{STEPS}*", self._heard)
        return asyncio.create_task(self._tell())

    def tell(
        self, holder: str, job_id: str, step: int, seconds: float, preview: bytes | None
    ) -> None:
        """Tell of a step, in its turn."""
        headers = {
            _HOLDER: holder,
            _STEP: str(step),
            _SECONDS: str(seconds),
            _SERVER: self._server,
        }
        self._telling.put_nowait((STEPS + job_id, preview or b"", headers))

    async def _tell(self) -> None:
        while True:
            await self._journal.tell(*await self._telling.get())

    def _heard(self, subject: str, preview: bytes, headers: Mapping[str, str]) -> None:
        if headers[_SERVER] == self._server:
            return
        job_id = subject.removeprefix(STEPS)
        url = f"data:image/jpeg;base64,{b64encode(preview).decode()}" if preview else None
        # The message may overtake that of the lease, or come behind the job's end.
        with suppress(StaleLease):
            step, seconds = int(headers[_STEP]), float(headers[_SECONDS])
            self._board.stepped(headers[_HOLDER], job_id, step, seconds, url)
