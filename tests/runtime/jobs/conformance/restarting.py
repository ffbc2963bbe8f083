"""A broker that is opened again on the same data."""

from dataclasses import replace

import pytest

from runtime.gallery import Gallery
from runtime.jobs.protocol import JobStatus
from runtime.jobs.worker_side import StaleLease
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.support import MODEL, Hand, run, submit


class Restarting:
    """A part of the suite."""

    def test_jobs_in_the_making_are_queued_again_and_the_attempt_counts(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                first, second = await submit(broker), await submit(broker)
                await Hand(broker).lease()
            async with opened() as broker:
                again = await broker.job(first.job_id)
                assert (again.status, again.attempt) == (JobStatus.QUEUED, 1)
                assert again.queue_position == 1
                worker = Hand(broker)
                assert await worker.lease(2) == [first.job_id]
                job = await broker.job(first.job_id)
                assert job.attempt == 2
                assert (await broker.job(second.job_id)).queue_position == 1

        run(check())

    def test_what_was_answered_waits_in_its_order(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                before = [await submit(broker, each) for each in ("batch", *["interactive"] * 3)]
            async with opened() as broker:
                after = [await broker.job(job.job_id) for job in before]
                assert [job.queue_position for job in after] == [4, 1, 2, 3]
                assert [replace(job, queue_position=None) for job in after] == [
                    replace(job, queue_position=None) for job in before
                ]
                assert await Hand(broker).lease(9) == [job.job_id for job in before[1:]] + [
                    before[0].job_id
                ]

        run(check())

    def test_what_was_begun_goes_first_and_the_rest_keeps_its_order(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                jobs = [(await submit(broker)).job_id for _ in range(5)]
                await Hand(broker).lease(2)
            async with opened() as broker:
                made, worker = [], Hand(broker)
                while leased := await worker.lease(9):
                    made += leased
                    for job_id in leased:
                        await worker.complete(job_id)
                assert made == jobs

        run(check())

    def test_a_worker_from_before_is_refused(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job_id = (await submit(broker)).job_id
                before = Hand(broker)
                await before.lease()
            async with opened() as broker:
                late = Hand(broker)
                late.name = before.name
                with pytest.raises(StaleLease):
                    late.step(job_id, 1)
                with pytest.raises(StaleLease):
                    await late.complete(job_id)
                assert await Hand(broker).lease() == [job_id]
                with pytest.raises(StaleLease):
                    await late.complete(job_id)
                assert list((await broker.images(9, None)).images) == []

        run(check())

    def test_the_last_attempt_that_is_lost_fails_the_job(self, opened: Opener) -> None:
        async def check() -> None:
            for _ in range(2):
                async with opened(max_attempts=2) as broker:
                    if broker.counters().queued == 0:
                        await submit(broker)
                    (job_id,) = await Hand(broker).lease()
            async with opened(max_attempts=2) as broker:
                job = await broker.job(job_id)
                assert (job.status, job.attempt) == (JobStatus.FAILED, 2)
                assert job.error is not None
                assert job.error.detail == "attempt 2 of 2 was the last: the server was stopped"

        run(check())

    def test_a_cancel_survives_the_restart(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                await Hand(broker).lease()
                await broker.cancel(job.job_id)
            async with opened() as broker:
                assert (await broker.job(job.job_id)).status is JobStatus.CANCELED

        run(check())

    def test_jobs_for_another_model_fail_and_say_so(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                leased, queued = await submit(broker), await submit(broker)
                await Hand(broker).lease()
            async with opened(model="bronze") as broker:
                for before in (leased, queued):
                    job = await broker.job(before.job_id)
                    assert job.status is JobStatus.FAILED
                    assert job.error is not None
                    assert repr(MODEL) in job.error.detail
                    assert "'bronze'" in job.error.detail
                assert broker.counters().queued == 0

        run(check())

    def test_a_finished_picture_stays_and_is_not_made_again(
        self, opened: Opener, gallery: Gallery
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                picture = await worker.draw(job.job_id, gallery)
            async with opened() as broker:
                assert list((await broker.images(5, None)).images) == [picture]
                assert gallery.picture_path(picture.filename) is not None
                assert (await broker.job(job.job_id)).image == picture
                assert await Hand(broker).lease() == []

        run(check())
