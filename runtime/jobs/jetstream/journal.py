"""The stream of a cluster: messages are written to its end, and read in its order.

All of NATS is known here alone; its errors are `ClusterFault` elsewhere.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.errors import NotFoundError

from runtime.jobs.log import Bell
from runtime.jobs.protocol import Unavailable

ResultT = TypeVar("ResultT")

PATIENCE = 15.0
"""Seconds for which a call is tried again: longer than the election of another leader takes."""
PAUSE = 0.2
"""Seconds between two tries."""
CONNECT_SECONDS = 5.0
"""Seconds for which a cluster is looked for at the start."""
HEARTBEAT_SECONDS = 1.0
"""A stream of which nothing is heard for two of these is read again from where it was."""

logger = logging.getLogger(__name__)


class ClusterFault(Unavailable):
    """The cluster cannot be reached, or answers nothing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of the stream."""

    sequence: int
    subject: str
    """Without the stream's prefix."""
    content: bytes


Listener = Callable[[Entry], None]


class Journal:
    """One stream, and plain messages beside it."""

    def __init__(self, client: Client, name: str, listener: Listener) -> None:
        """`listener` is called with every message of the stream, in the stream's order."""
        self._client = client
        self._stream: JetStreamContext = client.jetstream(timeout=2)
        self._name = name
        self._listener = listener
        self._read = Bell()
        self.sequence = 0
        """The number of the last message that was read."""

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, servers: str, name: str, listener: Listener, replicas: int = 1
    ) -> AsyncIterator[Self]:
        """The journal `name` of a cluster, read to its end. Raises ClusterFault."""
        client = await _connected(servers)
        try:
            journal = cls(client, name, listener)
            await journal._translated(lambda: journal._open(replicas), servers)
            yield journal
        finally:
            await client.close()

    @property
    def fault(self) -> str:
        """The reason why nothing can be written now; empty for none."""
        if self._client.is_connected:
            return ""
        return "no NATS server can be reached; it is tried all the time"

    async def write(self, subject: str, content: bytes) -> int:
        """Write a message; returns its number. Raises ClusterFault.

        One of which no answer came is written again, and may be there twice. Conditions are left to
        the readers: those of NATS do not hold in a cluster while writes are under way, and may let
        its servers fall apart (nats-server's issues 4320, 5644, 8469).
        """

        async def publish() -> int:
            return (await self._stream.publish(self._subject(subject), content)).seq

        return await self._translated(publish, subject)

    async def newest(self, subject: str) -> int:
        """The number of the newest message of a subject; 0 for none. Raises ClusterFault."""

        async def get() -> int:
            try:
                message = await self._stream.get_last_msg(self._name, self._subject(subject))
            except NotFoundError:
                return 0
            return message.seq or 0

        return await self._translated(get, subject)

    async def content(self, sequence: int) -> bytes:
        """The content of the message of this number. Raises ClusterFault."""

        async def get() -> bytes:
            return (await self._stream.get_msg(self._name, sequence)).data or b""

        return await self._translated(get, f"message {sequence}")

    async def caught_up(self, sequence: int) -> None:
        """Wait until the message of this number has been read."""
        while self.sequence < sequence:
            await self._read.next_ring.wait()

    async def tell(self, subject: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Send a plain message, which nobody keeps: it is lost where the cluster is not there."""
        try:
            await self._client.publish(self._aside(subject), content, headers=dict(headers))
        except NatsError as error:
            logger.warning("a message about %s is lost: %s", subject, error)

    async def hear(
        self, subject: str, listener: Callable[[str, bytes, Mapping[str, str]], None]
    ) -> None:
        """Call `listener` with the subject, the content and the headers of every plain message."""
        prefix = self._aside("")

        async def called(message: Msg) -> None:
            try:
                listener(message.subject.removeprefix(prefix), message.data, message.headers or {})
            except Exception:
                logger.exception("a message of another server was not understood")

        await self._translated(
            lambda: self._client.subscribe(self._aside(subject), cb=called), subject
        )

    async def _open(self, replicas: int) -> None:
        config = StreamConfig(
            name=self._name,
            subjects=[f"{self._subject('>')}"],
            discard=DiscardPolicy.OLD,
            num_replicas=replicas,
        )
        info = await self._stream.add_stream(config)
        whole = asyncio.Event()
        if not info.state.messages:
            self.sequence = info.state.last_seq
            whole.set()

        async def called(message: Msg) -> None:
            self._take(message)
            if not message.metadata.num_pending:
                whole.set()

        await self._stream.subscribe(
            self._subject(">"),
            stream=self._name,
            cb=called,
            ordered_consumer=True,
            idle_heartbeat=HEARTBEAT_SECONDS,
        )
        await whole.wait()

    def _take(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        # A consumer that was lost and made anew may begin with what was read.
        if sequence <= self.sequence:
            return
        subject = message.subject.removeprefix(self._subject(""))
        try:
            self._listener(Entry(sequence, subject, message.data))
        except Exception:
            # One message that cannot be read must not stop all that follow.
            logger.exception("message %d, %s, was not understood", sequence, subject)
        self.sequence = sequence
        self._read.ring()

    async def _translated(self, call: Callable[[], Awaitable[ResultT]], subject: str) -> ResultT:
        """The result of a call, which is tried again while the cluster has no leader."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await call()
            except (NatsError, TimeoutError, OSError) as error:
                found = error
            if asyncio.get_running_loop().time() > deadline:
                raise ClusterFault(
                    f"the NATS cluster does not answer ({subject}): {found or repr(found)}; see "
                    "that most of its servers run and have JetStream"
                ) from found
            await asyncio.sleep(PAUSE)

    def _subject(self, subject: str) -> str:
        return f"{self._name}.kept.{subject}"

    def _aside(self, subject: str) -> str:
        return f"{self._name}.told.{subject}"


async def _connected(servers: str) -> Client:
    async def tried(error: Exception) -> None:
        logger.debug("NATS: %s", error or repr(error))

    async def lost() -> None:
        logger.warning("the NATS server is gone; others are tried, and it again, all the time")

    async def back() -> None:
        logger.info("a NATS server is there again")

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await nats.connect(
                servers.split(","),
                error_cb=tried,
                disconnected_cb=lost,
                reconnected_cb=back,
                max_reconnect_attempts=-1,
                reconnect_time_wait=PAUSE,
            )
    except (NatsError, TimeoutError, OSError) as error:
        raise ClusterFault(
            f"{servers}: no NATS server can be reached ({str(error) or 'no answer'}); start "
            "nats-server with -js, or give other addresses"
        ) from error
