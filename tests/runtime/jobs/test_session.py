"""A session over a real socket pair; the test is the worker at the other end."""

import asyncio
from pathlib import Path

from runtime.jobs.protocol import JobStatus
from runtime.wire.messages import (
    Assignment,
    Broken,
    Cancel,
    Completed,
    Leaving,
    Stepped,
    Vacant,
    encode,
)
from tests.runtime.jobs.peer import READY, connected, until
from tests.runtime.jobs.support import open_broker, read_all, run, submit


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
