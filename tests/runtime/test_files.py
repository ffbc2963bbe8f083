"""A written file is there whole or not at all, whatever ends the writer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import files
from runtime.files import parse_json, put_in_place, read_ahead, remove_unfinished, write_whole
from tests.places import ROOT


def test_an_integer_of_thousands_of_digits_is_told() -> None:
    assert parse_json('{"a": [-12, 3.5]}') == {"a": [-12, 3.5]}
    assert parse_json("9" * 310) == 10**310 - 1
    with pytest.raises(
        ValueError, match=r"an integer of 5000 digits, 999999999\.\.\.; expected at"
    ):
        parse_json("9" * 5_000)


DIE_AT_THE_DISK = """
import os, signal, sys
from pathlib import Path
from runtime.files import put_in_place, write_whole

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(script: str, *arguments: Path) -> None:
    """Run a script that is killed when its content should reach the disk."""
    command = [sys.executable, "-c", DIE_AT_THE_DISK + script, *map(str, arguments)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL


def full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_written_over_in_one_step(tmp_path: Path) -> None:
    for content in (b"first", memoryview(b"second")):
        write_whole(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == bytes(content)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_writer_killed_in_the_middle_leaves_the_old_file_and_nothing_for_long(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    killed('write_whole(Path(sys.argv[1]), b"new" * 100_000)', path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def folder_of(path: Path) -> Path:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "file").write_bytes(b"content")
    return path


def test_a_folder_is_put_in_place_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging, synced, sync = folder_of(tmp_path / ".staging"), [], os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    put_in_place(staging, tmp_path / "place")
    assert (tmp_path / "place" / "inner" / "file").read_bytes() == b"content"
    assert not staging.exists()
    expected = [".staging/inner", ".staging/inner/file", ".staging", "."]
    assert [str(path) for path in synced] == expected


def test_a_folder_never_takes_the_place_of_another(tmp_path: Path) -> None:
    place, staging = folder_of(tmp_path / "place"), folder_of(tmp_path / ".staging")
    with pytest.raises(OSError, match="not empty"):
        put_in_place(staging, place)
    assert staging.is_dir()


def test_a_folder_is_in_its_place_only_when_it_is_on_disk(tmp_path: Path) -> None:
    staging, place = folder_of(tmp_path / ".staging"), tmp_path / "place"
    killed("put_in_place(Path(sys.argv[1]), Path(sys.argv[2]))", staging, place)
    assert staging.is_dir()
    assert not place.exists()


def test_a_file_that_cannot_be_written_is_named_as_the_caller_knows_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failed:
        write_whole(tmp_path / "absent" / "file", b"")
    assert failed.value.filename == str(tmp_path / "absent" / "file")


Asked = list[tuple[str, int, int]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The pieces that the system was asked to read: a file's name, first byte and bytes."""
    found: Asked = []

    def advised(descriptor: int, begin: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        found.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, begin, size))

    monkeypatch.setattr(os, "posix_fadvise", advised)
    return found


def sized(path: Path, size: int) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


def test_files_are_read_ahead_in_their_order(tmp_path: Path, asked: Asked) -> None:
    big, small = sized(tmp_path / "big", 2**17 + 1), sized(tmp_path / "small", 5)
    read_ahead([big, small]).join()
    assert asked == [("big", 0, 2**17), ("big", 2**17, 2**17), ("small", 0, 2**17)]


def test_what_the_memory_has_no_room_for_is_not_read_ahead(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "available_bytes", lambda: 5)
    paths = [sized(tmp_path / "first", 4), sized(tmp_path / "second", 2), tmp_path / "first"]
    read_ahead(paths).join()
    assert [name for name, _, _ in asked] == ["first"]


def test_a_file_that_is_gone_ends_reading_ahead_and_nothing_else(
    tmp_path: Path, asked: Asked
) -> None:
    read_ahead([tmp_path / "gone", sized(tmp_path / "there", 1)]).join()
    assert asked == []
