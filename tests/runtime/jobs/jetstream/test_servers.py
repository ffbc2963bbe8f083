"""Several servers on one stream see the same, and take over from one that is gone."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from runtime.jobs.jetstream.broker import JetStreamBroker
from runtime.jobs.jetstream.journal import ClusterFault
from runtime.jobs.protocol import Idempotency, IdempotencyConflict, Job, JobStatus
from tests.api.live import PATIENCE
from tests.nats_server import NatsCluster, NatsServer, free_port
from tests.places import ROOT
from tests.runtime.jobs.support import MODEL, Hand, gallery_events, read, read_all, run, submit

Open = Callable[..., JetStreamBroker]

MOST = 40
"""Jobs, while NATS servers are killed."""

LEASE = """
import asyncio, sys
from pathlib import Path
from runtime.jobs.jetstream.broker import JetStreamBroker
from tests.runtime.jobs.support import MODEL, Hand

async def main():
    url, name, pictures = sys.argv[1:]
    broker = JetStreamBroker(url, Path(pictures), MODEL, queue_limit=100, lease_seconds=1,
                             max_attempts=3, name=name)
    async with broker:
        print(*await Hand(broker).lease(2), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def opened(nats: NatsServer, stream: str, pictures: Path) -> Open:
    """Makes a server's broker, each time another one on the same stream."""

    def make(model: str = MODEL, lease_seconds: float = 30, url: str = "") -> JetStreamBroker:
        return JetStreamBroker(
            url or nats.url,
            pictures,
            model,
            queue_limit=100,
            lease_seconds=lease_seconds,
            max_attempts=3,
            name=stream,
        )

    return make


def test_a_job_of_one_server_is_drawn_at_another_and_followed_at_both(opened: Open) -> None:
    async def check() -> None:
        async with opened() as one, opened() as other:
            job_id = (await submit(one)).job_id
            here, there = one.follow(job_id), other.follow(job_id)
            worker = Hand(other)
            heard = [await read(here, 1), await read(there, 1)]
            assert await worker.lease() == [job_id]
            for events, seen in zip((here, there), heard, strict=True):
                seen.extend(await read(events, 1))
            for step in (1, 2, 3):
                worker.step(job_id, step, b"jpeg %d" % step)
                for events, seen in zip((here, there), heard, strict=True):
                    seen.extend(await read(events, 1))
            picture = await worker.complete(job_id)
            for events, seen in zip((here, there), heard, strict=True):
                seen.extend(await read_all(events))
            assert heard[0] == heard[1]
            assert [event.step for event in heard[0]] == [None, 0, 1, 2, 3, None]
            assert heard[0][-1].image == picture
            for index, event in enumerate(heard[0][:-1]):
                rest = await read_all(other.follow(job_id, event.id))
                assert [each.id for each in rest] == [each.id for each in heard[1][index + 1 :]]
            assert await one.job(job_id) == await other.job(job_id)

    run(check())


def test_a_gallery_that_is_followed_at_one_goes_on_at_another(opened: Open) -> None:
    async def check() -> None:
        async with opened() as one, opened() as other:
            here = gallery_events(one)
            begin = await anext(here)
            worker = Hand(one)
            made = []
            for _ in range(2):
                await submit(other)
                while not (leased := await worker.lease()):
                    await asyncio.sleep(0)
                made.append(await worker.complete(*leased))
            first = await anext(here)
            assert first.image == made[0]
            there = gallery_events(other, first.id)
            assert (await anext(there)).image == made[1]
            everything = gallery_events(other, begin.id)
            assert [(await anext(everything)).image for _ in range(2)] == made
            page = await other.images(9, None)
            assert list(page.images) == made[::-1]

    run(check())


def test_servers_that_lease_at_once_get_each_job_once(opened: Open) -> None:
    async def check() -> None:
        async with opened() as one, opened() as other:
            jobs = [(await submit(one)).job_id for _ in range(20)]
            await other.job(jobs[-1])
            workers = [Hand(broker) for broker in (one, other) for _ in range(2)]
            leased = await asyncio.gather(*(worker.lease(5) for worker in workers))
            assert sorted(chain(*leased)) == sorted(jobs)

    run(check())


def test_a_key_at_two_servers_at_once_stands_for_one_job(opened: Open) -> None:
    async def check() -> None:
        async with opened() as one, opened() as other:
            key = Idempotency.of("key", {"seed": 1})
            jobs = await asyncio.gather(
                *(submit(broker, idempotency=key) for broker in (one, other) * 3)
            )
            assert len({job.job_id for job in jobs}) == 1
            assert one.counters().queued == 1
            bodies = [Idempotency.of("more", {"seed": seed}) for seed in range(4)]
            answers = await asyncio.gather(
                *(
                    submit(broker, idempotency=body)
                    for broker, body in zip((one, other) * 2, bodies, strict=True)
                ),
                return_exceptions=True,
            )
            assert [type(each) for each in answers].count(IdempotencyConflict) == 3
            assert [isinstance(each, Job) for each in answers].count(True) == 1

    run(check())


def test_jobs_of_a_server_that_is_killed_are_given_to_another(
    opened: Open, nats: NatsServer, stream: str, pictures: Path
) -> None:
    async def check() -> None:
        async with opened(lease_seconds=1) as broker:
            jobs = [(await submit(broker)).job_id for _ in range(3)]
            command = [sys.executable, "-c", LEASE, nats.url, stream, str(pictures)]
            lost = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert lost.stdout is not None
            assert (await asyncio.to_thread(lost.stdout.readline)).split() == jobs[:2]
            lost.send_signal(signal.SIGKILL)
            lost.wait()
            lost.stdout.close()
            worker = Hand(broker)
            while (await broker.job(jobs[0])).status is not JobStatus.QUEUED:
                await asyncio.sleep(0.01)
            while (await broker.job(jobs[1])).status is not JobStatus.QUEUED:
                await asyncio.sleep(0.01)
            assert await worker.lease(3) == jobs[:1]
            assert (await broker.job(jobs[0])).attempt == 2

    run(check())


def test_a_job_of_a_model_that_another_server_serves_waits(opened: Open) -> None:
    async def check() -> None:
        async with opened() as one:
            job = await submit(one)
            async with opened(model="bronze") as other:
                assert await Hand(other).lease() == []
                mine = await submit(other, model="bronze")
                assert await Hand(other).lease(2) == [mine.job_id]
                assert (await one.job(job.job_id)).status is JobStatus.QUEUED
                assert await Hand(one).lease(2) == [job.job_id]

    run(check())


def test_what_was_answered_outlives_a_nats_server_that_is_killed(
    opened: Open, tmp_path: Path
) -> None:
    async def check(server: NatsServer) -> None:
        async with opened(url=server.url) as broker:
            before = await submit(broker)
            events = broker.follow(before.job_id)
            await anext(events)
            server.stop(signal.SIGKILL)
            later = asyncio.ensure_future(submit(broker))
            await asyncio.to_thread(server.start)
            after = await later
            worker = Hand(broker)
            assert await worker.lease(2) == [before.job_id, after.job_id]
            await worker.complete(before.job_id)
            assert (await read_all(events))[-1].status is JobStatus.COMPLETED

    with NatsServer(tmp_path / "own") as server:
        run(check(server))


async def kill_all(cluster: NatsCluster, taken: list[str]) -> None:
    """Kill each of its servers in turn, once some more jobs were taken, and start it again."""
    for number, server in enumerate(cluster.servers):
        while len(taken) < MOST * number // len(cluster.servers):
            await asyncio.sleep(0.01)
        server.stop(signal.SIGKILL)
        await asyncio.to_thread(server.start)


def test_nothing_is_lost_while_each_nats_server_is_killed_in_turn(
    stream: str, pictures: Path, tmp_path: Path
) -> None:
    taken: list[str] = []
    done: list[str] = []

    async def submit_all(broker: JetStreamBroker) -> None:
        for _ in range(MOST // 2):
            job = await submit(broker)
            taken.append(job.job_id)

    async def draw_all(broker: JetStreamBroker) -> None:
        worker = Hand(broker)
        while len(done) < MOST:
            leased = await worker.lease(4)
            done.extend([(await worker.complete(job_id)).job_id for job_id in leased])
            await asyncio.sleep(0.01)

    async def check(cluster: NatsCluster) -> None:
        one, other = (
            JetStreamBroker(
                cluster.url,
                pictures,
                MODEL,
                queue_limit=100,
                lease_seconds=30,
                max_attempts=3,
                name=stream,
                replicas=3,
            )
            for _ in range(2)
        )
        async with one, other:
            acts = [act(broker) for act in (submit_all, draw_all) for broker in (one, other)]
            await asyncio.gather(kill_all(cluster, taken), *acts)
            assert sorted(done) == sorted(taken)
            for broker in (one, other):
                # What the other one has done may have yet to come.
                while len(images := (await broker.images(100, None)).images) < len(taken):
                    await asyncio.sleep(0.01)
                assert sorted(image.job_id for image in images) == sorted(taken)

    with NatsCluster(tmp_path / "own") as cluster:
        asyncio.run(asyncio.wait_for(check(cluster), PATIENCE))


def test_a_cluster_that_is_not_there_is_said(opened: Open) -> None:
    async def check() -> None:
        url = f"nats://127.0.0.1:{free_port()}"
        with pytest.raises(ClusterFault, match=r"no NATS server can be reached .*nats-server"):
            async with opened(url=url):
                pass

    run(check())
