"""How a build shows its steps."""

import io

import pytest

from engine_build.progress import Phases, Progress


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def two_steps(stream: io.StringIO, *, shown: bool = True) -> str:
    with Progress(2, shown=shown, stream=stream) as progress:
        with progress.step("first"), progress.bytes(100) as advance:
            advance(100)
        with progress.step("second"):
            pass
    return stream.getvalue()


def test_a_log_gets_a_line_for_each_step_as_it_begins() -> None:
    assert two_steps(io.StringIO()) == "[1/2] first\n[2/2] second\n"


def test_a_terminal_gets_a_bar() -> None:
    shown = two_steps(Terminal())
    assert "first" in shown
    assert "2/2" in shown
    assert "[1/2]" not in shown


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["log", "terminal"])
def test_quiet_is_quiet(stream: io.StringIO) -> None:
    assert two_steps(stream, shown=False) == ""


def test_a_failed_step_is_not_counted_as_done() -> None:
    stream = Terminal()
    with pytest.raises(ZeroDivisionError), Progress(1, stream=stream) as progress:
        fail_in(progress)
    assert "1/1" not in stream.getvalue()


def fail_in(progress: Progress) -> None:
    with progress.step("fails"):
        raise ZeroDivisionError


def phases(stream: io.StringIO, *, shown: bool = True) -> str:
    with Phases("denoiser", shown=shown, stream=stream) as found:
        for name, step in (("Building engine", 1), ("Cloning", 1), ("Cloning", 2)):
            found.show(name, step, 2)
    return stream.getvalue()


def test_a_log_gets_a_line_for_each_phase_once() -> None:
    assert phases(io.StringIO()) == "denoiser: building engine\ndenoiser: cloning\n"


def test_a_terminal_sees_how_far_a_phase_is() -> None:
    shown = phases(Terminal())
    assert "denoiser: cloning" in shown
    assert "2/2" in shown


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["log", "terminal"])
def test_quiet_phases_are_quiet(stream: io.StringIO) -> None:
    assert phases(stream, shown=False) == ""
