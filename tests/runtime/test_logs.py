"""Log lines: their form, their fields, and what becomes of exceptions, warnings and threads."""

import json
import logging
import threading
import warnings
from typing import Any

import pytest

from runtime.logs import LogOptions, about_job, logging_to_stderr, rfc3339

logger = logging.getLogger("runtime.of_a_test")
SECRET = "of a variable"


def written(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def fail() -> None:
    secret = SECRET
    raise ValueError(f"{len(secret)} letters")


def test_a_record_of_any_library_is_an_object_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(LogOptions("json"), "worker"):
        logger.info("two\nlines of %s", "words", extra={"number": 1, "path": object})
        logging.getLogger("uvicorn.error").warning("up", extra={"color_message": "in colours"})
    ours, uvicorns = written(capfd)
    assert (ours["event"], ours["number"]) == ("two\nlines of words", 1)
    assert (ours["logger"], ours["level"]) == ("runtime.of_a_test", "info")
    assert ours["process"] == "worker"
    assert (uvicorns["logger"], uvicorns["level"]) == ("uvicorn", "warning")
    assert "color_message" not in uvicorns


@pytest.mark.parametrize("process", ["server", "worker"])
def test_lines_are_about_the_job_of_their_thread(
    process: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr(LogOptions("json"), process):
        with about_job("one"):
            logger.warning("in it")
            with about_job(""):
                logger.warning("about none")
            logger.warning("given", extra={"job_id": "another"})
        logger.warning("behind it")
    assert [line.get("job_id") for line in written(capfd)] == ["one", None, "another", None]


def test_an_exception_is_in_one_line_without_variables(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(LogOptions("json"), "server"):
        try:
            fail()
        except ValueError:
            logger.exception("it failed")
        thread = threading.Thread(target=fail, name="helper")
        thread.start()
        thread.join()
    first, second = written(capfd)
    for line in (first, second):
        assert line["exception"].endswith("ValueError: 13 letters")
        assert SECRET not in line["exception"]
    assert (second["level"], second["event"]) == ("critical", "helper has ended: an error of ours")


def test_people_get_lines_that_their_terminal_does_not_obey(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with logging_to_stderr(LogOptions("console"), "worker"):
        try:
            fail()
        except ValueError:
            logger.exception("it \x1b[1mfailed\nbadly", extra={"name_of": "a\x07"})
    first, *rest = capfd.readouterr().err.splitlines()
    assert "it ?[1mfailed badly" in first
    assert "name_of=a?" in first
    assert "process=worker" in first
    assert rest[-1] == "ValueError: 13 letters"
    assert SECRET not in "".join(rest)


def test_a_warning_is_a_record(capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(LogOptions("json"), "server"), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("soon gone", stacklevel=1)
    [line] = written(capfd)
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")


def test_levels_are_ours_and_details_of_libraries_are_never_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def all_levels() -> list[tuple[str, str]]:
        for name in ("runtime.of_a_test", "PIL.of_a_test"):
            for level in ("debug", "info", "error"):
                logging.getLogger(name).log(getattr(logging, level.upper()), "said")
        return [(line["logger"].partition(".")[0], line["level"]) for line in written(capfd)]

    with logging_to_stderr(LogOptions("json", "debug"), "worker"):
        ours = [("runtime", level) for level in ("debug", "info", "error")]
        assert all_levels() == [*ours, ("PIL", "info"), ("PIL", "error")]
    with logging_to_stderr(LogOptions("json", "error"), "worker"):
        assert all_levels() == [("runtime", "error"), ("PIL", "error")]


def test_afterwards_all_is_as_it_was() -> None:
    names = ("", "api", "runtime")
    before = [(logging.getLogger(name).level, logging.getLogger(name).handlers) for name in names]
    hook = threading.excepthook
    with logging_to_stderr(LogOptions("json", "debug"), "server"):
        assert threading.excepthook is not hook
    after = [(logging.getLogger(name).level, logging.getLogger(name).handlers) for name in names]
    assert (after, threading.excepthook) == (before, hook)


def test_times_are_of_rfc_3339_in_utc() -> None:
    assert rfc3339(1_764_321_821.5) == "2025-11-28T09:23:41.500Z"
