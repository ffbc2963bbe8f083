from pathlib import Path

from runtime.gallery import Gallery
from runtime.jobs.protocol import JobStatus
from tests.runtime.jobs.support import MODEL, Hand, open_broker, run, submit


def test_jobs_in_the_making_are_queued_again_and_the_attempt_counts(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            first, second = await submit(broker), await submit(broker)
            await Hand(broker).lease()
        async with open_broker(tmp_path) as broker:
            again = await broker.job(first.job_id)
            assert (again.status, again.attempt) == (JobStatus.QUEUED, 1)
            assert again.queue_position == 1
            worker = Hand(broker)
            assert await worker.lease(2) == [first.job_id]
            job = await broker.job(first.job_id)
            assert job.attempt == 2
            assert (await broker.job(second.job_id)).queue_position == 1

    run(check())


def test_the_last_attempt_that_is_lost_fails_the_job(tmp_path: Path) -> None:
    async def check() -> None:
        for _ in range(2):
            async with open_broker(tmp_path, max_attempts=2) as broker:
                if broker.counters().queued == 0:
                    await submit(broker)
                (job_id,) = await Hand(broker).lease()
        async with open_broker(tmp_path, max_attempts=2) as broker:
            job = await broker.job(job_id)
            assert (job.status, job.attempt) == (JobStatus.FAILED, 2)
            assert job.error is not None
            assert job.error.detail == "attempt 2 of 2 was the last: the server was stopped"

    run(check())


def test_a_cancel_survives_the_restart(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            await Hand(broker).lease()
            await broker.cancel(job.job_id)
        async with open_broker(tmp_path) as broker:
            assert (await broker.job(job.job_id)).status is JobStatus.CANCELED

    run(check())


def test_jobs_for_another_model_fail_and_say_so(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            leased, queued = await submit(broker), await submit(broker)
            await Hand(broker).lease()
        async with open_broker(tmp_path, model="bronze") as broker:
            for before in (leased, queued):
                job = await broker.job(before.job_id)
                assert job.status is JobStatus.FAILED
                assert job.error is not None
                assert repr(MODEL) in job.error.detail
                assert "'bronze'" in job.error.detail
            assert broker.counters().queued == 0

    run(check())


def test_a_finished_picture_stays_and_is_not_made_again(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            picture = await worker.draw(job.job_id, gallery)
        async with open_broker(tmp_path) as broker:
            assert list((await broker.images(5, None)).images) == [picture]
            assert gallery.picture_path(picture.filename) is not None
            assert (await broker.job(job.job_id)).image == picture
            assert await Hand(broker).lease() == []

    run(check())


def test_a_picture_that_was_put_back_is_not_removed(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            await submit(broker)
            worker = Hand(broker)
            picture = await worker.draw(*await worker.lease(), gallery)
            await broker.delete_image(picture.filename)
        gallery.add_picture(picture.filename, b"from a backup")
        async with open_broker(tmp_path):
            assert list(gallery.names()) == [picture.filename]

    run(check())


def test_what_a_dead_server_left_half_done_is_tidied(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            unfinished, canceled = await submit(broker), await submit(broker)
            await broker.cancel(canceled.job_id)
            await Hand(broker).lease()
        stranger = "f" * 32
        for job_id in (unfinished.job_id, canceled.job_id, stranger):
            gallery.add_picture(f"{job_id}.png", b"old")
            gallery.add_thumbnail(f"{job_id}.png", b"old")
        half = tmp_path / "images" / f".{unfinished.job_id}.png.0badcafe.tmp"
        half.write_bytes(b"hal")
        async with open_broker(tmp_path) as broker:
            assert not half.exists()
            # The next attempt writes over the first; a canceled job has no picture; of a job that
            # this database does not know, nothing is touched.
            assert set(gallery.names()) == {f"{unfinished.job_id}.png", f"{stranger}.png"}
            worker = Hand(broker)
            await worker.lease()
            picture = await worker.draw(unfinished.job_id, gallery)
            assert len((await broker.images(5, None)).images) == 1
            path = gallery.picture_path(picture.filename)
            assert path is not None
            assert path.read_bytes() == b"picture"

    run(check())
