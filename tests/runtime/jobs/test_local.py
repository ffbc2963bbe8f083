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
    ImageNotFound,
    JobStatus,
)
from tests.places import ROOT
from tests.runtime.jobs.support import Hand, open_broker, run, submit

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
