"""Submission, idempotency keys, priorities, the bounded queue, and cancels."""

import asyncio
from collections.abc import Sequence

import pytest

from runtime.gallery import Gallery
from runtime.jobs.protocol import (
    Broker,
    Idempotency,
    IdempotencyConflict,
    Job,
    JobEnded,
    JobNotFound,
    JobStatus,
    QueueFull,
    Stopping,
)
from runtime.wire.messages import (
    Paced,
)
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.support import MODEL, Hand, read_all, run, submit


class Queueing:
    """A part of the suite."""

    def test_a_submitted_job_is_answered_as_it_was_asked_for(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker, steps=12)
                assert await broker.job(job.job_id) == job
                assert (job.model, job.status, job.queue_position) == (MODEL, JobStatus.QUEUED, 1)
                assert (job.step, job.total_steps, job.attempt) == (0, 12, 0)
                assert job.request["seed"] == 7
                assert (job.started_at, job.finished_at, job.image, job.error) == (None,) * 4

        run(check())

    def test_interactive_jobs_go_before_batch_jobs_and_positions_fall(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                batch = await submit(broker, "batch")
                first = await submit(broker)
                second = await submit(broker)
                jobs = (first, second, batch)
                positions = [(await broker.job(job.job_id)).queue_position for job in jobs]
                assert positions == [1, 2, 3]

                worker = Hand(broker)
                assert await worker.lease() == [first.job_id]
                positions = [(await broker.job(job.job_id)).queue_position for job in jobs]
                assert positions == [None, 1, 2]
                assert await worker.lease(5) == [second.job_id, batch.job_id]

        run(check())

    def test_a_full_queue_refuses_and_takes_again(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened(queue_limit=2) as broker:
                await submit(broker)
                known = await submit(broker, idempotency=Idempotency.of("key", {"a": 1}))
                with pytest.raises(QueueFull, match="2 jobs wait, the queue takes 2"):
                    await submit(broker)
                again = await submit(broker, idempotency=Idempotency.of("key", {"a": 1}))
                assert again.job_id == known.job_id
                await Hand(broker).lease()
                await submit(broker)

        run(check())

    def test_an_idempotency_key_stands_for_one_job_across_a_restart(self, opened: Opener) -> None:
        async def check() -> None:
            body = {"prompt": "x", "steps": 20, "loras": [{"id": "a"}]}
            key = Idempotency.of("key", body)
            async with opened() as broker:
                twice = (submit(broker, idempotency=key) for _ in range(2))
                first, second = await asyncio.gather(*twice)
                assert first.job_id == second.job_id
                other = await submit(broker, idempotency=Idempotency.of("other", body))
                assert other.job_id != first.job_id
            async with opened() as broker:
                same = Idempotency.of("key", {**body, "steps": 20.0})
                assert (await submit(broker, idempotency=same)).job_id == first.job_id
                with pytest.raises(IdempotencyConflict):
                    await submit(broker, idempotency=Idempotency.of("key", {**body, "steps": 21}))

        run(check())

    def test_a_queue_that_is_filled_at_once_takes_no_more_than_its_limit(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened(queue_limit=4) as broker:
                answers = await asyncio.gather(
                    *(submit(broker) for _ in range(10)), return_exceptions=True
                )
                taken = [answer for answer in answers if isinstance(answer, Job)]
                assert [type(answer) for answer in answers].count(QueueFull) == 6
                assert await _positions(broker, taken) == [1, 2, 3, 4]

        run(check())

    def test_a_broker_that_is_stopped_takes_no_job_and_ends_those_that_it_has(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                job_id = (await submit(broker)).job_id
                worker = Hand(broker)
                await worker.lease()
                broker.stop()
                with pytest.raises(Stopping):
                    await submit(broker)
                await worker.complete(job_id)
                assert (await broker.job(job_id)).status is JobStatus.COMPLETED
                assert broker.counters().submitted == 1

        run(check())

    def test_a_key_for_two_bodies_at_once_stands_for_one_of_them(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                bodies = [Idempotency.of("key", {"seed": seed}) for seed in range(5)]
                answers = await asyncio.gather(
                    *(submit(broker, idempotency=body) for body in bodies), return_exceptions=True
                )
                (job,) = (answer for answer in answers if isinstance(answer, Job))
                assert [type(each) for each in answers].count(IdempotencyConflict) == 4
                assert broker.counters().queued == 1
                known = bodies[answers.index(job)]
            async with opened() as broker:
                (again,) = await broker.replay(known)
                assert again is not None
                assert again.job_id == job.job_id

        run(check())

    def test_several_jobs_of_one_request_are_a_batch_in_its_order(self, opened: Opener) -> None:
        async def check() -> None:
            requests = [{"prompt": "x", "seed": n, "priority": "interactive"} for n in range(3)]
            key = Idempotency.of("key", {"n": 3})
            async with opened() as broker:
                jobs = await broker.submit(MODEL, requests, 3, key)
                assert [job.request for job in jobs] == requests
                assert [job.queue_position for job in jobs] == [1, 2, 3]
                assert len({job.batch_id for job in jobs}) == 1
                assert jobs[0].batch_id is not None
                assert (await submit(broker)).batch_id is None
                await Hand(broker).lease()
                ids = [job.job_id for job in jobs]
                again = await broker.replay(key)
                assert [job.job_id for job in again] == ids
                assert again[0].status is JobStatus.PROCESSING
                assert await broker.batch(jobs[0].batch_id) == again
                with pytest.raises(JobNotFound, match="no batch"):
                    await broker.batch(ids[0])
            async with opened() as broker:
                again = await broker.submit(MODEL, requests, 3, key)
                assert [job.job_id for job in again] == ids
                assert again[0].batch_id == jobs[0].batch_id
                assert await broker.batch(again[0].batch_id or "") == again
                assert broker.counters().queued == 4

        run(check())

    def test_of_several_jobs_all_are_taken_or_none(self, opened: Opener) -> None:
        async def check() -> None:
            request = {"prompt": "x", "seed": 1, "priority": "interactive"}
            async with opened(queue_limit=3) as broker:
                await submit(broker)
                with pytest.raises(QueueFull, match="takes 3 and these are 3; try later"):
                    await broker.submit(MODEL, [request] * 3, 3)
                assert broker.counters().queued == 1
                assert len(await broker.submit(MODEL, [request] * 2, 3)) == 2

        run(check())

    def test_a_key_stands_for_its_job_as_it_is_now(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                key = Idempotency.of("key", {"seed": 1})
                assert list(await broker.replay(key)) == []
                job = await submit(broker, idempotency=key)
                worker = Hand(broker)
                await worker.complete(*await worker.lease())
                (replayed,) = await broker.replay(key)
                for again in (replayed, await submit(broker, idempotency=key)):
                    assert (again.job_id, again.status) == (job.job_id, JobStatus.COMPLETED)
                with pytest.raises(IdempotencyConflict):
                    await broker.replay(Idempotency.of("key", {"seed": 2}))

        run(check())

    def test_a_cancel_and_a_picture_at_once_end_the_job_as_one_of_them(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                worker = Hand(broker)
                for _ in range(5):
                    job_id = (await submit(broker)).job_id
                    await worker.lease()
                    answers = await asyncio.gather(
                        broker.cancel(job_id), worker.complete(job_id), return_exceptions=True
                    )
                    job = await broker.job(job_id)
                    canceled = not isinstance(answers[0], JobEnded)
                    expected = JobStatus.CANCELED if canceled else JobStatus.COMPLETED
                    assert (job.status, job.image is None) == (expected, canceled)
                    final = (await read_all(broker.follow(job_id)))[-1]
                    assert (final.status, final.image) == (job.status, job.image)

        run(check())

    def test_canceling_a_queued_job_ends_it_and_may_be_repeated(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job, behind = await submit(broker), await submit(broker)
                for _ in range(2):
                    canceled = await broker.cancel(job.job_id)
                    assert canceled.status is JobStatus.CANCELED
                    assert canceled.cancel_requested
                    assert canceled.finished_at is not None
                assert (await broker.job(behind.job_id)).queue_position == 1
                assert await Hand(broker).lease(5) == [behind.job_id]

        run(check())

    def test_canceling_a_job_in_the_making_asks_its_worker(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                worker.step(job.job_id, 2)
                for _ in range(2):
                    asked = await broker.cancel(job.job_id)
                    assert asked.status is JobStatus.PROCESSING
                    assert asked.cancel_requested
                assert set(worker.canceled) == {job.job_id}
                await broker.leases.canceled(worker, job.job_id)
                canceled = await broker.job(job.job_id)
                assert (canceled.status, canceled.step) == (JobStatus.CANCELED, 2)

        run(check())

    def test_a_cancel_that_was_answered_wins_over_the_picture(
        self, opened: Opener, gallery: Gallery
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                await broker.cancel(job.job_id)
                await worker.draw(job.job_id, gallery)
                assert (await broker.job(job.job_id)).status is JobStatus.CANCELED
                assert list((await broker.images(10, None)).images) == []
                assert list(gallery.names()) == []

        run(check())

    def test_what_has_ended_or_never_was_cannot_be_canceled(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                await worker.complete(job.job_id)
                with pytest.raises(JobEnded, match="completed"):
                    await broker.cancel(job.job_id)
                with pytest.raises(JobNotFound):
                    await broker.cancel("0" * 32)
                with pytest.raises(JobNotFound):
                    await broker.job("no such job")

        run(check())

    def test_counters_add_up(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                jobs = [await submit(broker) for _ in range(4)]
                worker = Hand(broker)
                await worker.lease(2)
                worker.step(jobs[0].job_id, 1, b"jpeg")
                worker.step(jobs[0].job_id, 2)
                await worker.complete(jobs[0].job_id)
                broker.leases.conditioned(1, 3, 0.5)
                broker.leases.conditioned(2, 0, 0.25)
                broker.leases.paced(Paced(19, 0.5, 1, 0.25, 2))
                broker.leases.paced(Paced(previews_dropped=3))
                await worker.die()
                await broker.cancel(jobs[3].job_id)
                counters = broker.counters()
                assert (counters.submitted, counters.queued, counters.processing) == (4, 2, 0)
                assert counters.ended == {"completed": 1, "failed": 0, "canceled": 1}
                assert (counters.steps, counters.step_seconds, counters.previews) == (2, 1.0, 1)
                assert counters.attempts_lost == 1
                assert (counters.calls, counters.host_seconds) == (19, 0.5)
                assert (counters.starts, counters.idle_seconds) == (1, 0.25)
                assert counters.previews_dropped == 5
                assert (counters.conditioning_hits, counters.conditioning_misses) == (3, 3)
                assert counters.conditioning_seconds == 0.75

        run(check())


async def _positions(broker: Broker, jobs: Sequence[Job]) -> list[int | None]:
    return [(await broker.job(job.job_id)).queue_position for job in jobs]
