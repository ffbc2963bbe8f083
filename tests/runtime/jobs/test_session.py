"""A session over a real socket pair; the test is the worker at the other end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.jobs.local import LocalBroker
from runtime.jobs.protocol import Job, JobStatus
from runtime.jobs.session import WorkerSession
from runtime.wire.link import WorkerLink
from runtime.wire.messages import (
    Assignment,
    Broken,
    Cancel,
    Canceled,
    Completed,
    Failed,
    Heartbeat,
    Leaving,
    Message,
    Ready,
    Risk,
    Stepped,
    Vacant,
    encode,
)
from runtime.wire.server_link import ServerLink
from tests.runtime.jobs.support import open_broker, read_all, run, shown, submit

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
async def connected(broker: LocalBroker, load_seconds: float = 60) -> AsyncIterator[Peer]:
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


async def until(broker: LocalBroker, job_id: str, reached: Callable[[Job], bool]) -> Job:
    """The job, once it is so; woken by its own events."""
    async for _ in broker.follow(job_id):
        job = await broker.job(job_id)
        if reached(job):
            return job
    job = await broker.job(job_id)
    assert reached(job), job
    return job


def test_a_worker_gets_jobs_and_reports_them(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            job = await submit(broker, steps=2)
            peer.say(READY, Vacant(1))
            order = await peer.hear()
            assert order == Assignment(job.job_id, job.request)
            events = asyncio.ensure_future(read_all(broker.follow(job.job_id)))
            peer.say(Stepped(job.job_id, 1, 0.1, b"jpeg"), Heartbeat(), Stepped(job.job_id, 2, 0.1))
            peer.say(Completed(job.job_id, f"{job.job_id}.png", 64, 32, 10))
            assert [shown(event) for event in await events][-1] == ("completed", None)
            assert peer.heard == [READY, Heartbeat()]
            done = await broker.job(job.job_id)
            assert done.image is not None
            assert (done.image.width, done.image.height, done.image.seed) == (64, 32, 7)

    run(check())


def test_a_job_says_what_its_pictures_file_lacks(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            job = await submit(broker)
            peer.say(READY, Vacant(1))
            await peer.hear()
            lacks = ["a part of the recipe"]
            peer.say(Completed(job.job_id, f"{job.job_id}.jpg", 64, 32, 10, lacks))
            done = await until(broker, job.job_id, lambda job: job.status is JobStatus.COMPLETED)
            assert done.warnings == ("a part of the recipe",)

    run(check())


def test_a_listener_that_keeps_up_sees_the_previews_of_steps_that_arrive_together(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            job = await submit(broker)
            peer.say(READY, Vacant(1))
            await peer.hear()
            events = broker.follow(job.job_id)
            await anext(events)
            rest = asyncio.ensure_future(read_all(events))
            await asyncio.sleep(0)
            steps = [Stepped(job.job_id, step, 0.1, b"jpeg") for step in (1, 2, 3)]
            peer.link._socket.sendall(b"".join(map(encode, steps)))
            peer.say(Completed(job.job_id, f"{job.job_id}.png", 64, 32, 10))
            seen = [event.step for event in await rest if event.preview]
            assert seen == [1, 2, 3]

    run(check())


def test_no_more_jobs_than_there_are_places(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            jobs = [(await submit(broker)).job_id for _ in range(4)]
            peer.say(READY, Vacant(2))
            orders = [await peer.hear(), await peer.hear()]
            assert [getattr(order, "job_id", None) for order in orders] == jobs[:2]
            peer.say(Failed(jobs[0], "title", "detail"))
            await until(broker, jobs[0], lambda job: job.status is JobStatus.FAILED)
            assert (await broker.job(jobs[2])).status is JobStatus.QUEUED
            peer.say(Vacant(1))
            assert getattr(await peer.hear(), "job_id", None) == jobs[2]

    run(check())


def test_a_waiting_worker_is_given_what_arrives(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            peer.say(READY, Vacant(4))
            for _ in range(2):
                job = await submit(broker)
                assert await peer.hear() == Assignment(job.job_id, job.request)

    run(check())


def test_a_cancel_reaches_the_worker_after_the_assignment(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            peer.say(READY, Vacant(1))
            job = await submit(broker)
            await until(broker, job.job_id, lambda job: job.status is JobStatus.PROCESSING)
            await broker.cancel(job.job_id)
            assert isinstance(await peer.hear(), Assignment)
            assert await peer.hear() == Cancel(job.job_id)
            peer.say(Canceled(job.job_id))
            await until(broker, job.job_id, lambda job: job.status is JobStatus.CANCELED)

    run(check())


def test_a_stale_report_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            waiting = await submit(broker)
            peer.say(READY, Stepped(waiting.job_id, 1, 0.1), Canceled("0" * 32))
            peer.say(Completed(waiting.job_id, f"{waiting.job_id}.png", 1, 1, 1), Vacant(1))
            assert isinstance(await peer.hear(), Assignment)
            assert (await broker.job(waiting.job_id)).step == 0
            assert list((await broker.images(9, None)).images) == []

    run(check())


def test_a_silent_worker_loses_its_leases(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path, lease_seconds=0.2) as broker, connected(broker) as peer:
            job = await submit(broker)
            peer.say(READY, Vacant(1))
            await peer.hear()
            peer.say(Risk(job.job_id, over=False))
            assert "it said nothing for 0.2 s" in await peer.ended
            await broker.leases.release(peer.session, "silence", counted=True)
            again = await broker.job(job.job_id)
            assert (again.status, again.attempt) == (JobStatus.QUEUED, 1)

    run(check())


def test_a_worker_that_says_nothing_while_it_loads_is_lost(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker, load_seconds=0.2) as peer:
            assert await peer.ended == "it said nothing for 0.2 s"

    run(check())


def test_a_session_ends_with_its_worker(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            peer.say(READY, Broken("the device is lost", lasting=False))
            peer.link.close()
            assert await peer.ended == "the other side is gone"
            assert peer.heard[-1] == Broken("the device is lost", lasting=False)

    run(check())


def test_a_worker_that_leaves_gets_no_job_and_may_still_complete_one(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker, connected(broker) as peer:
            job = await submit(broker)
            peer.say(READY, Vacant(1))
            assert isinstance(await peer.hear(), Assignment)
            late = await submit(broker)
            peer.say(Leaving(), Vacant(1))
            peer.say(Completed(job.job_id, f"{job.job_id}.png", 1, 1, 1))
            await until(broker, job.job_id, lambda job: job.status is JobStatus.COMPLETED)
            assert peer.session.leaving
            assert (await broker.job(late.job_id)).status is JobStatus.QUEUED

    run(check())


def test_a_worker_that_talks_nonsense_is_cut_off(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            async with connected(broker) as peer:
                peer.say(Cancel("x"))
                assert "Cancel is nothing that a worker says" in await peer.ended
            async with connected(broker) as peer:
                peer.link._socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert "a frame of" in await peer.ended

    run(check())
