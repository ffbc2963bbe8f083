"""Leases, the attempts that they count, and the reports that are refused."""

import asyncio
from itertools import chain

import pytest

from runtime.jobs.protocol import JobError, JobStatus
from runtime.jobs.worker_side import PASSING, StaleLease
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.support import Hand, run, submit


class Leasing:
    """A part of the suite."""

    def test_two_workers_never_get_the_same_job(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                jobs = [(await submit(broker)).job_id for _ in range(5)]
                one, two = Hand(broker), Hand(broker)
                assert await one.lease(2) == jobs[:2]
                assert await two.lease(9) == jobs[2:]
                assert await one.lease(1) == []

        run(check())

    def test_workers_that_ask_at_once_get_each_job_once(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                jobs = [(await submit(broker)).job_id for _ in range(9)]
                workers = [Hand(broker) for _ in range(4)]
                leased = await asyncio.gather(*(worker.lease(3) for worker in workers))
                assert sorted(chain(*leased)) == sorted(jobs)
                assert [worker.assigned for worker in workers] == leased

        run(check())

    def test_a_job_that_was_put_back_loses_no_attempt(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened(max_attempts=1) as broker:
                job_id = (await submit(broker)).job_id
                worker = Hand(broker)
                await worker.lease()
                await broker.leases.put_back(worker, job_id, "the disk is full")
                job = await broker.job(job_id)
                assert (job.status, job.attempt, job.queue_position) == (JobStatus.QUEUED, 0, 1)
                assert not broker.leases.holds(worker)
                with pytest.raises(StaleLease):
                    await worker.complete(job_id)

        run(check())

    def test_batch_jobs_fill_all_places_and_yield_them_to_interactive_ones(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                batch = [(await submit(broker, "batch")).job_id for _ in range(6)]
                worker = Hand(broker)
                assert await worker.lease(4) == batch[:4]
                assert await worker.lease(0) == []
                soon = [(await submit(broker)).job_id for _ in range(5)]
                assert await worker.lease(0) == soon[:4]
                assert await worker.lease(-4) == []
                await worker.complete(soon[0])
                assert await worker.lease(-3) == [soon[4]]
                for job_id in (*soon[1:], batch[0]):
                    await worker.complete(job_id)
                assert await worker.lease(1) == [batch[4]]

        run(check())

    def test_a_batch_job_takes_no_place_that_an_interactive_one_has_taken(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                worker = Hand(broker)
                first = (await submit(broker, "batch")).job_id
                assert await worker.lease(2) == [first]
                soon = (await submit(broker)).job_id
                late = (await submit(broker, "batch")).job_id
                assert await worker.lease(1) == [soon]
                assert await worker.lease(0) == []
                await worker.complete(first)
                assert await worker.lease(1) == [late]

        run(check())

    def test_a_batch_job_is_passed_by_a_bounded_number_of_later_jobs(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                batch = (await submit(broker, "batch")).job_id
                later = [(await submit(broker)).job_id for _ in range(PASSING + 2)]
                worker = Hand(broker)
                leased = await worker.lease(PASSING + 3)
                assert leased == [*later[:PASSING], batch, *later[PASSING:]]

        run(check())

    def test_reports_of_an_attempt_that_lost_its_lease_change_nothing(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job_id = (await submit(broker)).job_id
                dead, alive = Hand(broker), Hand(broker)
                await dead.lease()
                dead.step(job_id, 2)
                await dead.die()
                assert await alive.lease() == [job_id]
                before = await broker.job(job_id)
                with pytest.raises(StaleLease):
                    dead.step(job_id, 3)
                with pytest.raises(StaleLease):
                    await dead.complete(job_id)
                with pytest.raises(StaleLease):
                    await broker.leases.fail(dead, job_id, JobError("late", "late"))
                with pytest.raises(StaleLease):
                    await broker.leases.canceled(dead, job_id)
                assert await broker.job(job_id) == before
                assert (before.status, before.attempt, before.step) == (JobStatus.PROCESSING, 2, 0)
                await alive.complete(job_id)
                with pytest.raises(StaleLease):
                    await alive.complete(job_id)
                assert len((await broker.images(9, None)).images) == 1

        run(check())

    def test_a_job_fails_with_the_reason_once_its_attempts_are_used_up(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened(max_attempts=2) as broker:
                job_id = (await submit(broker)).job_id
                for expected in (JobStatus.QUEUED, JobStatus.FAILED):
                    worker = Hand(broker)
                    await worker.lease()
                    await worker.die()
                    job = await broker.job(job_id)
                    assert job.status is expected
                assert job.error == JobError(
                    "The job's worker was lost", "attempt 2 of 2 was the last: it was killed"
                )
                assert job.finished_at is not None

        run(check())

    def test_an_attempt_that_was_handed_back_is_not_counted(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened(max_attempts=1) as broker:
                job_id = (await submit(broker)).job_id
                worker = Hand(broker)
                await worker.lease()
                await worker.die(counted=False)
                job = await broker.job(job_id)
                assert (job.status, job.attempt, job.started_at) == (JobStatus.QUEUED, 0, None)
                assert broker.counters().attempts_lost == 0

        run(check())

    def test_a_canceled_job_of_a_lost_worker_is_not_tried_again(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job_id = (await submit(broker)).job_id
                worker = Hand(broker)
                await worker.lease()
                await broker.cancel(job_id)
                await worker.die()
                assert (await broker.job(job_id)).status is JobStatus.CANCELED

        run(check())

    def test_a_job_that_was_lost_before_is_made_alone(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                lost = [(await submit(broker)).job_id for _ in range(2)]
                fresh = [(await submit(broker)).job_id for _ in range(3)]
                worker = Hand(broker)
                await worker.lease(2)
                await worker.die()
                worker = Hand(broker)
                for job_id in lost:
                    assert await worker.lease(4) == [job_id]
                    assert await worker.lease(4) == []
                    await worker.complete(job_id)
                assert await worker.lease(2) == fresh[:2]
                assert await worker.lease(2) == fresh[2:]

        run(check())

    def test_a_lost_job_waits_until_the_worker_is_free_for_it(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                lost = (await submit(broker)).job_id
                busy, dying = Hand(broker), Hand(broker)
                await dying.lease()
                fresh = (await submit(broker)).job_id
                assert await busy.lease() == [fresh]
                await dying.die()
                assert await busy.lease() == []
                woken = busy.woken
                await busy.complete(fresh)
                assert busy.woken > woken
                assert await busy.lease() == [lost]

        run(check())

    def test_a_job_that_fails_says_why_and_a_cancel_comes_first(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                failing, canceled = (await submit(broker)).job_id, (await submit(broker)).job_id
                worker = Hand(broker)
                await worker.lease(2)
                await broker.cancel(canceled)
                error = JobError("The picture could not be made", "the disk is full")
                for job_id in (failing, canceled):
                    await broker.leases.fail(worker, job_id, error)
                assert (await broker.job(failing)).error == error
                assert (await broker.job(failing)).status is JobStatus.FAILED
                job = await broker.job(canceled)
                assert (job.status, job.error) == (JobStatus.CANCELED, None)

        run(check())

    def test_a_job_that_the_worker_had_not_begun_loses_no_attempt(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened(max_attempts=1) as broker:
                begun, held = await submit(broker), await submit(broker)
                worker = Hand(broker)
                await worker.lease(2, begun=False)
                worker.begin(begun.job_id)
                await worker.die()
                assert (await broker.job(begun.job_id)).status is JobStatus.FAILED
                again = await broker.job(held.job_id)
                assert (again.status, again.attempt) == (JobStatus.QUEUED, 0)
                assert broker.counters().attempts_lost == 1

        run(check())

    def test_a_job_that_rests_is_not_the_reason(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened(max_attempts=1) as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                broker.leases.at_risk(worker, job.job_id, begun=False)
                await worker.die()
                again = await broker.job(job.job_id)
                assert (again.status, again.attempt) == (JobStatus.QUEUED, 0)

        run(check())

    def test_a_loss_with_others_is_the_last_attempt_of_none(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened(max_attempts=1) as broker:
                jobs = [await submit(broker), await submit(broker)]
                worker = Hand(broker)
                await worker.lease(2)
                await worker.die()
                for job in jobs:
                    again = await broker.job(job.job_id)
                    assert (again.status, again.attempt) == (JobStatus.QUEUED, 1)
                poison = Hand(broker)
                assert await poison.lease(2) == [jobs[0].job_id]
                await poison.die()
                failed = await broker.job(jobs[0].job_id)
                assert failed.status is JobStatus.FAILED
                assert failed.error is not None
                assert failed.error.detail == "attempt 2 of 2 was the last: it was killed"
                innocent = Hand(broker)
                assert await innocent.lease(2) == [jobs[1].job_id]
                await innocent.complete(jobs[1].job_id)
                assert (await broker.job(jobs[1].job_id)).status is JobStatus.COMPLETED

        run(check())
