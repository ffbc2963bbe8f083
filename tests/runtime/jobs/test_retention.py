import sqlite3
from pathlib import Path

import pytest

from runtime.gallery import Gallery
from runtime.jobs import retention as bounds
from runtime.jobs.bounds import Retention
from runtime.jobs.database import Database
from runtime.jobs.database_file import DATABASE
from runtime.jobs.local import LocalBroker
from runtime.jobs.protocol import Idempotency, ImageNotFound, JobNotFound, JobStatus
from tests.runtime.jobs.support import Hand, open_broker, run, submit


async def drawn(broker: LocalBroker, gallery: Gallery, count: int) -> list[str]:
    """The jobs of so many pictures."""
    worker, jobs = Hand(broker), []
    for _ in range(count):
        jobs.append((await submit(broker)).job_id)
        await worker.lease()
        await worker.draw(jobs[-1], gallery)
    return jobs


async def canceled(broker: LocalBroker, key: str | None = None) -> str:
    job = await submit(broker, idempotency=Idempotency.of(key, {}) if key else None)
    await broker.cancel(job.job_id)
    return job.job_id


def age(data: Path, days: int) -> None:
    """Let all that has happened be so many days ago."""
    with sqlite3.connect(data / DATABASE, timeout=30) as connection:
        for table, column in ("jobs", "finished_at"), ("images", "created_at"):
            moved = f"strftime('%Y-%m-%dT%H:%M:%f+00:00', {column}, '-{days} days')"
            connection.execute(f"UPDATE {table} SET {column} = {moved}")
    connection.close()


def test_ended_jobs_go_with_their_keys_and_those_with_a_picture_stay(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path, retention=Retention(job_days=30)) as broker:
            (pictured,) = await drawn(broker, gallery, 1)
            old = await canceled(broker, key="one")
            waiting = await submit(broker)
            age(tmp_path, 31)
            young = await canceled(broker)
            await broker.retain()
            with pytest.raises(JobNotFound):
                await broker.job(old)
            assert not await broker.replay(Idempotency.of("one", {}))
            for job_id in (pictured, young):
                assert (await broker.job(job_id)).status.ended
            assert (await broker.job(waiting.job_id)).status is JobStatus.QUEUED

    run(check())


def test_old_pictures_go_with_their_files_and_then_their_jobs(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        kept = Retention(job_days=30, picture_days=60)
        async with open_broker(tmp_path, retention=kept) as broker:
            (old,) = await drawn(broker, gallery, 1)
            age(tmp_path, 61)
            (young,) = await drawn(broker, gallery, 1)
            await broker.retain()
            assert [each.job_id for each in (await broker.images(9, None)).images] == [young]
            assert set(gallery.names()) == {f"{young}.png"}
            with pytest.raises(JobNotFound):
                await broker.job(old)

    run(check())


def test_pictures_keep_to_their_bytes_the_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        # A picture of these tests has 10 bytes by its record.
        async with open_broker(tmp_path, retention=Retention(picture_bytes=25)) as broker:
            monkeypatch.setattr(bounds, "PORTION", 2)
            jobs = await drawn(broker, gallery, 7)
            await broker.retain()
            left = [each.job_id for each in (await broker.images(9, None)).images]
            assert left == [jobs[6], jobs[5]]
            with pytest.raises(ImageNotFound):
                await broker.image(f"{jobs[0]}.png")

    run(check())


def test_the_oldest_pictures_beyond_their_number_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path, retention=Retention(picture_count=2)) as broker:
            monkeypatch.setattr(bounds, "PORTION", 2)
            jobs = await drawn(broker, gallery, 7)
            await broker.retain()
            left = [each.job_id for each in (await broker.images(9, None)).images]
            assert left == [jobs[6], jobs[5]]
            assert set(gallery.names()) == {f"{job}.png" for job in jobs[5:]}

    run(check())


@pytest.mark.parametrize("days", [None, 30])
def test_the_jobs_that_ended_first_go_beyond_their_number(
    days: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        kept = Retention(job_days=days, job_count=2)
        async with open_broker(tmp_path, retention=kept) as broker:
            monkeypatch.setattr(bounds, "PORTION", 2)
            waiting = (await submit(broker)).job_id
            old = [await canceled(broker) for _ in range(5)]
            await broker.cancel(waiting)
            (pictured,) = await drawn(broker, gallery, 1)
            queued = (await submit(broker)).job_id
            await broker.retain()
            for job_id in old[:4]:
                with pytest.raises(JobNotFound):
                    await broker.job(job_id)
            for job_id in (old[4], waiting, pictured, queued):
                assert (await broker.job(job_id)).job_id == job_id

    run(check())


@pytest.mark.parametrize("others", [0, 5000])
def test_a_deletion_looks_at_no_other_job_or_key(others: int, tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, by the thousand: other writes wait for each."""
    steps: list[None] = []

    def fill(connection: sqlite3.Connection) -> None:
        names = [(f"{number:032x}",) for number in range(others + 1)]
        connection.executemany(
            "INSERT INTO jobs (job_id, model, request, priority, status, total_steps, created_at,"
            " finished_at) VALUES (?, 'm', '{}', 'batch', 'canceled', 1, '', '2020')",
            names,
        )
        connection.executemany("INSERT INTO idempotency VALUES (?1, '', ?1, '2020')", names)

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(lambda: steps.append(None), 1000)

    async def check() -> None:
        database = Database(tmp_path / "test.sqlite3")
        await database.write(fill)
        await database.write(watch)
        await database.write(bounds._deletion([("2020", f"{0:032x}")]))
        await database.close()

    run(check())
    assert steps == []


def test_without_bounds_all_stays(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path, retention=Retention(job_days=None)) as broker:
            (pictured,) = await drawn(broker, gallery, 1)
            ended = await canceled(broker)
            age(tmp_path, 5000)
            await broker.retain()
            assert (await broker.job(ended)).status is JobStatus.CANCELED
            assert (await broker.job(pictured)).image is not None

    run(check())
