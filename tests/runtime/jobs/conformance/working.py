"""A worker's connection, by the messages that a worker's process sends."""

import asyncio

from runtime.jobs.protocol import (
    JobStatus,
)
from runtime.wire.messages import (
    Assignment,
    Cancel,
    Canceled,
    Completed,
    Failed,
    Heartbeat,
    Risk,
    Stepped,
    Vacant,
)
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.peer import READY, connected, until
from tests.runtime.jobs.support import MODEL, read_all, run, shown, submit


class Working:
    """A part of the suite."""

    def test_a_worker_gets_jobs_and_reports_them(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker, connected(broker) as peer:
                job = await submit(broker, steps=2)
                peer.say(READY, Vacant(1))
                order = await peer.hear()
                assert order == Assignment(job.job_id, job.request, model=MODEL)
                events = asyncio.ensure_future(read_all(broker.follow(job.job_id)))
                peer.say(
                    Stepped(job.job_id, 1, 0.1, b"jpeg"), Heartbeat(), Stepped(job.job_id, 2, 0.1)
                )
                peer.say(Completed(job.job_id, f"{job.job_id}.png", 64, 32, 10))
                assert [shown(event) for event in await events][-1] == ("completed", None)
                assert peer.heard == [READY, Heartbeat()]
                done = await broker.job(job.job_id)
                assert done.image is not None
                assert (done.image.width, done.image.height, done.image.seed) == (64, 32, 7)

        run(check())

    def test_a_job_says_what_its_pictures_file_lacks(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker, connected(broker) as peer:
                job = await submit(broker)
                peer.say(READY, Vacant(1))
                await peer.hear()
                lacks = ["a part of the recipe"]
                peer.say(Completed(job.job_id, f"{job.job_id}.jpg", 64, 32, 10, lacks))
                done = await until(
                    broker, job.job_id, lambda job: job.status is JobStatus.COMPLETED
                )
                assert done.warnings == ("a part of the recipe",)

        run(check())

    def test_no_more_jobs_than_there_are_places(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker, connected(broker) as peer:
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

    def test_a_waiting_worker_is_given_what_arrives(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker, connected(broker) as peer:
                peer.say(READY, Vacant(4))
                for _ in range(2):
                    job = await submit(broker)
                    assert await peer.hear() == Assignment(job.job_id, job.request, model=MODEL)

        run(check())

    def test_a_cancel_reaches_the_worker_after_the_assignment(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker, connected(broker) as peer:
                peer.say(READY, Vacant(1))
                job = await submit(broker)
                await until(broker, job.job_id, lambda job: job.status is JobStatus.PROCESSING)
                await broker.cancel(job.job_id)
                assert isinstance(await peer.hear(), Assignment)
                assert await peer.hear() == Cancel(job.job_id)
                peer.say(Canceled(job.job_id))
                await until(broker, job.job_id, lambda job: job.status is JobStatus.CANCELED)

        run(check())

    def test_a_stale_report_is_refused_and_the_session_goes_on(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker, connected(broker) as peer:
                waiting = await submit(broker)
                peer.say(READY, Stepped(waiting.job_id, 1, 0.1), Canceled("0" * 32))
                peer.say(Completed(waiting.job_id, f"{waiting.job_id}.png", 1, 1, 1), Vacant(1))
                assert isinstance(await peer.hear(), Assignment)
                assert (await broker.job(waiting.job_id)).step == 0
                assert list((await broker.images(9, None)).images) == []

        run(check())

    def test_a_silent_worker_loses_its_leases(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened(lease_seconds=0.2) as broker, connected(broker) as peer:
                job = await submit(broker)
                peer.say(READY, Vacant(1))
                await peer.hear()
                peer.say(Risk(job.job_id, over=False))
                assert "it said nothing for 0.2 s" in await peer.ended
                await broker.leases.release(peer.session, "silence", counted=True)
                again = await broker.job(job.job_id)
                assert (again.status, again.attempt) == (JobStatus.QUEUED, 1)

        run(check())
