"""A disk without room: jobs wait, nothing is lost, deleting works, and all goes on by itself."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.errors import CalotypeError
from runtime.gallery import Gallery
from runtime.jobs import disk as disks
from runtime.jobs.disk import BALLAST, Disk, NoRoom
from runtime.jobs.local import LocalBroker
from runtime.jobs.protocol import JobStatus
from tests.fakes.small_disk import fill, small_disk
from tests.runtime.jobs.support import MODEL, Hand, open_broker, run, submit

MEGABYTE = 2**20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as place:
        yield place


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once: no test waits for a second."""
    monkeypatch.setattr(disks, "LOOK_SECONDS", 0.005)


async def until(broker: LocalBroker, *, faulty: bool) -> None:
    async with asyncio.timeout(20):
        while bool(broker.fault()) is not faulty:
            await asyncio.sleep(0)


def test_a_disk_with_less_than_its_reserve_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gallery(tmp_path)
    disk = Disk(tmp_path, 100 * MEGABYTE)
    assert disk.look() == ""
    free = SimpleNamespace(f_bavail=50 * 256, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    assert disk.look() == (
        "the data folder has 50 MB free, and 100 MB are kept free (--disk-reserve-mb): free some "
        "room, or delete pictures"
    )


def test_a_folder_that_cannot_be_written_is_named_without_its_path(tmp_path: Path) -> None:
    Gallery(tmp_path)
    (tmp_path / "thumbs").rmdir()
    (tmp_path / "thumbs").write_bytes(b"a file")
    fault = Disk(tmp_path, 0).look()
    assert fault.startswith("the folder thumbs cannot be written (Not a directory)")
    assert str(tmp_path) not in fault


def test_jobs_wait_for_room_and_go_on(small: Path) -> None:
    async def check() -> None:
        async with open_broker(small, disk_reserve_bytes=MEGABYTE) as broker:
            waiting = await submit(broker)
            worker = Hand(broker)
            filler = fill(small)
            await until(broker, faulty=True)
            assert await worker.lease() == []
            with pytest.raises(NoRoom, match="free some room, or delete pictures"):
                await submit(broker)
            woken = worker.woken
            filler.unlink()
            await until(broker, faulty=False)
            assert worker.woken > woken
            assert await worker.lease() == [waiting.job_id]
            await submit(broker)

    run(check())


def test_a_picture_that_could_not_be_saved_costs_no_attempt(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path, max_attempts=1) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            await broker.leases.put_back(worker, job.job_id, "No space left on device")
            again = await broker.job(job.job_id)
            assert (again.status, again.attempt, again.queue_position) == (JobStatus.QUEUED, 0, 1)
            assert await worker.lease() == []
            with pytest.raises(NoRoom, match="No space left on device"):
                await submit(broker)

    run(check())


def test_a_job_that_was_canceled_meanwhile_is_not_queued_again(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            await broker.cancel(job.job_id)
            await broker.leases.put_back(worker, job.job_id, "No space left on device")
            assert (await broker.job(job.job_id)).status is JobStatus.CANCELED

    run(check())


def test_a_picture_is_deleted_from_a_disk_that_is_full(small: Path) -> None:
    async def check() -> None:
        gallery = Gallery(small)
        async with open_broker(small, disk_reserve_bytes=MEGABYTE) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            picture = await worker.draw(job.job_id, gallery)
            while not (small / BALLAST).exists():
                await asyncio.sleep(0)
            fill(small)
            await until(broker, faulty=True)
            await broker.delete_image(picture.filename)
            assert not (await broker.images(5, None)).images
            assert gallery.picture_path(picture.filename) is None

    run(check())


def test_a_server_starts_on_a_full_disk_and_says_so(small: Path) -> None:
    async def check() -> None:
        async with open_broker(small) as broker:
            job = await submit(broker)
            await Hand(broker).lease()
            while not (small / BALLAST).exists():
                await asyncio.sleep(0)
        fill(small)
        async with open_broker(small, disk_reserve_bytes=MEGABYTE) as broker:
            again = await broker.job(job.job_id)
            assert (again.status, again.attempt) == (JobStatus.QUEUED, 1)
            await until(broker, faulty=True)

    run(check())


def test_a_start_that_finds_no_room_at_all_names_the_disk(small: Path) -> None:
    async def check() -> None:
        fill(small)
        with pytest.raises((CalotypeError, OSError)) as refused:
            async with LocalBroker(small, MODEL, queue_limit=1, lease_seconds=1, max_attempts=1):
                pass
        assert "move it away" not in str(refused.value)

    run(check())
