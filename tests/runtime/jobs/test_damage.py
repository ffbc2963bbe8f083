"""A database that is damaged is said at the start, with the file and the remedy."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.gallery import Gallery
from runtime.jobs.database_file import DATABASE, DamagedDatabase
from runtime.jobs.protocol import Idempotency
from tests.runtime.jobs.support import Hand, open_broker, run, submit

PAGE = 4096
JOBS = 60


def fill(data: Path) -> None:
    """Jobs on some pages, with keys; one picture."""

    async def serve() -> None:
        async with open_broker(data) as broker:
            for number in range(JOBS):
                await submit(broker, idempotency=Idempotency.of(str(number), {}))
            worker = Hand(broker)
            await worker.draw(*await worker.lease(), Gallery(data))

    run(serve())


def pages(path: Path) -> Iterator[int]:
    """The places of all pages but the first."""
    yield from range(PAGE, path.stat().st_size, PAGE)


def overwrite(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(content)


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as stream:
        stream.truncate(size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "zeroed": lambda path: [overwrite(path, place, bytes(PAGE)) for place in pages(path)],
    "one page zeroed": lambda path: overwrite(path, PAGE, bytes(PAGE)),
    "0xFF": lambda path: [overwrite(path, place, b"\xff" * PAGE) for place in pages(path)],
    "the last page 0xFF": lambda path: overwrite(path, max(pages(path)), b"\xff" * PAGE),
    "the first page zeroed": lambda path: overwrite(path, 0, bytes(PAGE)),
    "the first page 0xFF": lambda path: overwrite(path, 0, b"\xff" * PAGE),
    "emptied": lambda path: truncate(path, 0),
    "truncated to half": lambda path: truncate(path, path.stat().st_size // 2),
    "truncated to a page": lambda path: truncate(path, PAGE),
    "truncated to some bytes": lambda path: truncate(path, 50),
    "no database": lambda path: path.write_text("Dear aunt, " * 1000),
    "taken away": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_said_with_the_file_and_the_remedy(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    fill(tmp_path)
    path = tmp_path / DATABASE
    damage(path)
    before = path.read_bytes() if path.exists() else None

    async def check() -> None:
        with pytest.raises(DamagedDatabase) as failed:
            await open_broker(tmp_path).__aenter__()
        said = str(failed.value)
        assert said.startswith(f"{path}: ")
        assert "`calotype gallery reindex` moves it aside and lists the pictures anew" in said
        assert "\n" not in said

    run(check())
    assert before == (path.read_bytes() if path.exists() else None)


@pytest.mark.parametrize("value", ["{", "[", "\0\0\0\0", b"\xff\xfe"], ids=ascii)
def test_a_row_that_holds_nonsense_is_damage_too(value: str | bytes, tmp_path: Path) -> None:
    """SQLite finds no fault with its tree."""
    fill(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute(
            "UPDATE jobs SET request = CAST(? AS TEXT) WHERE status = 'queued'", (value,)
        )
    connection.close()

    async def check() -> None:
        with pytest.raises(DamagedDatabase, match=rf"{DATABASE} is damaged .*gallery reindex"):
            await open_broker(tmp_path).__aenter__()

    run(check())


def test_a_folder_without_pictures_or_database_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()

    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            await submit(broker)

    run(check())
