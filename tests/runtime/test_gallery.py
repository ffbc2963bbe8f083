import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.gallery import Gallery, is_picture_name, picture_name
from runtime.jobs.names import new_job_id
from tests.places import ROOT

NAME = "0" * 32 + ".png"

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from runtime.files import write_whole

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), b"new" * 100_000)
"""


def test_only_our_names_are_picture_names() -> None:
    job_id = new_job_id()
    for extension in ("png", "webp", "jpg"):
        assert is_picture_name(picture_name(job_id, extension))
    for name in (
        f"../{job_id}.png",
        f"{job_id}.png/../x",
        f"{job_id}.gif",
        f"{job_id}.png\n",
        f"{job_id.upper()}.png",
        f"{job_id}",
        f".{job_id}.png.12345678.tmp",
        "٠" * 32 + ".png",
        "..",
        "",
        "\0",
        "\ud800",
    ):
        assert not is_picture_name(name), ascii(name)


def test_files_are_found_by_their_own_names_only(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    gallery.add_picture(NAME, b"picture")
    gallery.add_thumbnail(NAME, b"small")
    (tmp_path / "secret.png").write_bytes(b"secret")
    picture, small = gallery.picture_path(NAME), gallery.thumbnail_path(NAME)
    assert picture is not None
    assert small is not None
    assert (picture.read_bytes(), small.read_bytes()) == (b"picture", b"small")
    for name in ("../secret.png", "..", ".", "", "/etc/passwd", "%2e%2e", "1" * 32 + ".png", "\0"):
        assert gallery.picture_path(name) is None
        assert gallery.thumbnail_path(name) is None
        for add in (gallery.add_picture, gallery.add_thumbnail):
            with pytest.raises(ValueError, match="no picture's file name"):
                add(name.replace("1", "x"), b"")
    assert set(gallery.names()) == {NAME}


def test_the_same_name_writes_over_and_remove_removes_both(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    for content in (b"first", b"second"):
        gallery.add_picture(NAME, content)
        gallery.add_thumbnail(NAME, content)
    assert [path.read_bytes() for path in tmp_path.rglob("*.png")] == [b"second", b"second"]
    gallery.remove(NAME)
    gallery.remove(NAME)
    assert list(tmp_path.rglob("*.png")) == []


def test_a_process_killed_in_the_middle_leaves_the_old_file_and_nothing_named(
    tmp_path: Path,
) -> None:
    gallery = Gallery(tmp_path)
    gallery.add_picture(NAME, b"old")
    gallery.add_thumbnail(NAME, b"old")
    path = gallery.picture_path(NAME)
    assert path is not None
    command = [sys.executable, "-c", WRITE_AND_DIE, str(path)]
    killed = subprocess.run(command, cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert set(gallery.names()) == {NAME}
    assert len(list(path.parent.iterdir())) == 2
    gallery.remove_unfinished()
    assert [found.name for found in path.parent.iterdir()] == [NAME]
