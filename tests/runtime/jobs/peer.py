"""A session over a real socket pair; the test is the worker at the other end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from runtime.jobs.protocol import Broker, Job
from runtime.jobs.session import WorkerSession
from runtime.jobs.worker_side import WorkedBroker
from runtime.wire.link import WorkerLink
from runtime.wire.messages import Broken, Message, Ready
from runtime.wire.server_link import ServerLink

READY = Ready("backend", "target", "device", "fp32", "", {})


@dataclass
class Peer:
    """The worker's end, and what the server made of it."""

    link: WorkerLink
    session: WorkerSession
    heard: list[Ready | Broken]
    ended: "asyncio.Task[str]"

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.link.send(message)

    async def hear(self) -> Message:
        return await asyncio.to_thread(self.link.receive)


@asynccontextmanager
async def connected(broker: WorkedBroker, load_seconds: float = 60) -> AsyncIterator[Peer]:
    ours, theirs = socket.socketpair()
    link = WorkerLink(theirs)
    opened = await ServerLink.open(ours)
    session = WorkerSession(broker.leases, opened, broker.lease_seconds, load_seconds)
    heard: list[Ready | Broken] = []
    ended = asyncio.create_task(session.run(heard.append))
    try:
        yield Peer(link, session, heard, ended)
    finally:
        link.close()
        await ended


async def until(broker: Broker, job_id: str, reached: Callable[[Job], bool]) -> Job:
    """The job, once it is so; woken by its own events."""
    async for _ in broker.follow(job_id):
        job = await broker.job(job_id)
        if reached(job):
            return job
    job = await broker.job(job_id)
    assert reached(job), job
    return job
