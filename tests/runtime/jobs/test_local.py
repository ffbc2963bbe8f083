import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import CalotypeError
from runtime.gallery import Gallery
from runtime.jobs.database_file import DATABASE
from runtime.jobs.disk import NoRoom
from runtime.jobs.protocol import (
    Idempotency,
    IdempotencyConflict,
    ImageNotFound,
    JobEnded,
    JobNotFound,
    JobStatus,
    QueueFull,
)
from runtime.wire.messages import Paced
from tests.places import ROOT
from tests.runtime.jobs.support import MODEL, Hand, open_broker, run, submit

SUBMIT_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.runtime.jobs.support import open_broker, submit

async def main():
    async with open_broker(Path(sys.argv[1])) as broker:
        for job in await asyncio.gather(*(submit(broker) for _ in range(5))):
            print(job.job_id)
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_job_that_was_answered_survives_kill_9(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUBMIT_AND_DIE, str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    answered = killed.stdout.split()
    assert len(answered) == 5

    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            jobs = [await broker.job(job_id) for job_id in answered]
            assert [job.queue_position for job in jobs] == [1, 2, 3, 4, 5]
            assert {job.status for job in jobs} == {JobStatus.QUEUED}
            assert {job.attempt for job in jobs} == {0}

    run(check())


def test_a_submitted_job_is_answered_as_it_was_asked_for(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            job = await submit(broker, steps=12)
            assert await broker.job(job.job_id) == job
            assert (job.model, job.status, job.queue_position) == (MODEL, JobStatus.QUEUED, 1)
            assert (job.step, job.total_steps, job.attempt) == (0, 12, 0)
            assert job.request["seed"] == 7
            assert (job.started_at, job.finished_at, job.image, job.error) == (None,) * 4

    run(check())


def test_interactive_jobs_go_before_batch_jobs_and_positions_fall(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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


def test_a_full_queue_refuses_and_takes_again(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path, queue_limit=2) as broker:
            await submit(broker)
            known = await submit(broker, idempotency=Idempotency.of("key", {"a": 1}))
            with pytest.raises(QueueFull, match="2 jobs wait, the queue takes 2"):
                await submit(broker)
            again = await submit(broker, idempotency=Idempotency.of("key", {"a": 1}))
            assert again.job_id == known.job_id
            await Hand(broker).lease()
            await submit(broker)

    run(check())


def test_an_idempotency_key_stands_for_one_job_across_a_restart(tmp_path: Path) -> None:
    async def check() -> None:
        body = {"prompt": "x", "steps": 20, "loras": [{"id": "a"}]}
        key = Idempotency.of("key", body)
        async with open_broker(tmp_path) as broker:
            twice = (submit(broker, idempotency=key) for _ in range(2))
            first, second = await asyncio.gather(*twice)
            assert first.job_id == second.job_id
            other = await submit(broker, idempotency=Idempotency.of("other", body))
            assert other.job_id != first.job_id
        async with open_broker(tmp_path) as broker:
            same = Idempotency.of("key", {**body, "steps": 20.0})
            assert (await submit(broker, idempotency=same)).job_id == first.job_id
            with pytest.raises(IdempotencyConflict):
                await submit(broker, idempotency=Idempotency.of("key", {**body, "steps": 21}))

    run(check())


def test_an_idempotency_key_is_forgotten_after_a_day(tmp_path: Path) -> None:
    async def check() -> None:
        key = Idempotency.of("key", {})
        async with open_broker(tmp_path) as broker:
            first = await submit(broker, idempotency=key)
            with sqlite3.connect(tmp_path / DATABASE) as connection:
                connection.execute(
                    "UPDATE idempotency SET created_at = strftime('%Y-%m-%dT%H:%M:%f+00:00',"
                    " created_at, '-25 hours')"
                )
            connection.close()
            assert (await submit(broker, idempotency=key)).job_id != first.job_id

    run(check())


def test_canceling_a_queued_job_ends_it_and_may_be_repeated(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            job, behind = await submit(broker), await submit(broker)
            for _ in range(2):
                canceled = await broker.cancel(job.job_id)
                assert canceled.status is JobStatus.CANCELED
                assert canceled.cancel_requested
                assert canceled.finished_at is not None
            assert (await broker.job(behind.job_id)).queue_position == 1
            assert await Hand(broker).lease(5) == [behind.job_id]

    run(check())


def test_canceling_a_job_in_the_making_asks_its_worker(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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


def test_a_cancel_that_was_answered_wins_over_the_picture(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            await broker.cancel(job.job_id)
            await worker.draw(job.job_id, gallery)
            assert (await broker.job(job.job_id)).status is JobStatus.CANCELED
            assert list((await broker.images(10, None)).images) == []
            assert list(gallery.names()) == []

    run(check())


def test_what_has_ended_or_never_was_cannot_be_canceled(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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


def test_a_data_folder_has_one_server(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path):
            with pytest.raises(CalotypeError, match="another server uses this data folder"):
                await open_broker(tmp_path).__aenter__()
        async with open_broker(tmp_path) as broker:
            await submit(broker)

    run(check())


def test_a_database_from_a_newer_server_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    async def check() -> None:
        with pytest.raises(CalotypeError, match="schema version 99"):
            await open_broker(tmp_path).__aenter__()

    run(check())


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"this is a letter to my aunt" * 100)

    async def check() -> None:
        with pytest.raises(CalotypeError, match=rf"{DATABASE}: cannot be opened as a database"):
            await open_broker(tmp_path).__aenter__()

    run(check())


def test_the_gallery_is_paged_newest_first(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            worker = Hand(broker)
            made = []
            for _ in range(7):
                job = await submit(broker)
                await worker.lease()
                made.append(await worker.complete(job.job_id))
            found, cursor = [], None
            for _ in range(3):
                page = await broker.images(3, cursor)
                found.append([image.filename for image in page.images])
                cursor = page.next_cursor
                if len(found) == 1:  # What comes or goes meanwhile shifts no page.
                    await broker.delete_image(made[6].filename)
                    await submit(broker)
                    await worker.complete(*await worker.lease())
            names = [image.filename for image in reversed(made)]
            assert found == [names[:3], names[3:6], names[6:]]
            assert cursor is None

    run(check())


def test_deleting_a_picture_removes_row_and_files(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            picture = await worker.draw(job.job_id, gallery)
            assert await broker.image(picture.filename) == picture
            assert (await broker.job(job.job_id)).image == picture

            await broker.delete_image(picture.filename)
            assert gallery.picture_path(picture.filename) is None
            assert gallery.thumbnail_path(picture.filename) is None
            assert (await broker.job(job.job_id)).image is None
            for lookup in (broker.image, broker.delete_image):
                with pytest.raises(ImageNotFound):
                    await lookup(picture.filename)

    run(check())


@pytest.mark.parametrize("folder", ["images", "thumbs"])
def test_a_deletion_that_failed_can_be_repeated(folder: str, tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            worker = Hand(broker)
            await submit(broker)
            picture = await worker.draw(*await worker.lease(), gallery)
            # A folder in the place of the file: not even root can unlink it.
            place = tmp_path / folder / picture.filename
            place.unlink()
            (place / "x").mkdir(parents=True)
            with pytest.raises(
                NoRoom, match=r"cannot be deleted .* then delete it again"
            ) as failed:
                await broker.delete_image(picture.filename)
            assert str(tmp_path) not in str(failed.value)
            assert await broker.image(picture.filename) == picture
            shutil.rmtree(place)
            await broker.delete_image(picture.filename)
            assert list(gallery.names()) == []
            with pytest.raises(ImageNotFound):
                await broker.delete_image(picture.filename)

    run(check())


def test_a_picture_that_is_not_listed_yet_is_not_deleted(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            job_id = (await submit(broker)).job_id
            worker = Hand(broker)
            await worker.lease()
            gallery.add_picture(f"{job_id}.png", b"picture")
            with pytest.raises(ImageNotFound):
                await broker.delete_image(f"{job_id}.png")
            assert list(gallery.names()) == [f"{job_id}.png"]

    run(check())


def test_counters_add_up(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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
