"""A package appears whole or not at all."""

import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from engine_build.package.publish import staged
from runtime.errors import BuildError


def names(engines: Path) -> set[str]:
    return {path.name for path in engines.iterdir()}


def publish(engines: Path, content: str, *, replace: bool = False) -> None:
    with staged(engines, "model", replace=replace) as folder:
        (folder / "file").write_text(content)


def fail(engines: Path) -> None:
    with staged(engines, "model", replace=True) as folder:
        (folder / "file").write_text("half")
        raise ZeroDivisionError


def hold(engines: Path, building: Event) -> None:
    """Another process's build, which never ends by itself."""
    with staged(engines, "model", replace=True) as folder:
        (folder / "file").write_text("half")
        building.set()
        signal.pause()


def build_elsewhere(engines: Path) -> multiprocessing.process.BaseProcess:
    """Start such a build and return once it is under way."""
    context = multiprocessing.get_context("spawn")
    building = context.Event()
    process = context.Process(target=hold, args=(engines, building), daemon=True)
    process.start()
    assert building.wait(120)
    return process


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    engines = tmp_path / "deep" / "engines"
    with staged(engines, "model", replace=False) as folder:
        (folder / "file").write_text("whole")
        assert not (engines / "model").exists()
    assert names(engines) == {"model"}
    assert (engines / "model" / "file").read_text() == "whole"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path)
    assert names(tmp_path) == set()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, "first")
    with pytest.raises(BuildError, match=r"model: already there; build it anew with --replace"):
        publish(tmp_path, "second")
    assert (tmp_path / "model" / "file").read_text() == "first"


def test_a_replaced_package_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    publish(tmp_path, "first")
    with staged(tmp_path, "model", replace=True) as folder:
        assert (tmp_path / "model" / "file").read_text() == "first"
        (folder / "file").write_text("second")
    assert names(tmp_path) == {"model"}
    assert (tmp_path / "model" / "file").read_text() == "second"


def test_a_failed_replacement_keeps_the_old_package(tmp_path: Path) -> None:
    publish(tmp_path, "first")
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path)
    assert names(tmp_path) == {"model"}
    assert (tmp_path / "model" / "file").read_text() == "first"


def test_two_builds_of_one_name_at_once_are_refused(tmp_path: Path) -> None:
    other = build_elsewhere(tmp_path)
    try:
        with pytest.raises(BuildError, match="another build of it is running"):
            publish(tmp_path, "ours", replace=True)
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


def test_a_killed_build_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    other = build_elsewhere(tmp_path)
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert names(tmp_path) == {".model.building", ".model.lock"}
    publish(tmp_path, "whole")
    assert names(tmp_path) == {"model"}
    assert (tmp_path / "model" / "file").read_text() == "whole"


def test_a_build_killed_between_two_renames_gives_the_old_package_back(tmp_path: Path) -> None:
    # Such a kill leaves the old package under its retired name and nothing under its own.
    publish(tmp_path, "first")
    (tmp_path / "model").rename(tmp_path / ".model.replaced")
    with pytest.raises(BuildError, match="already there"):
        publish(tmp_path, "second")
    assert names(tmp_path) == {"model"}
    assert (tmp_path / "model" / "file").read_text() == "first"
