"""A time of day that is moved: it is noticed, and nothing is deleted by it."""

import asyncio
from pathlib import Path

import pytest

from runtime.jobs import local
from runtime.jobs.bounds import Retention
from runtime.jobs.clock import LEAST_MOVE, Clock
from runtime.jobs.protocol import JobNotFound
from tests.runtime.jobs.support import open_broker, run
from tests.runtime.jobs.test_retention import age, canceled


class Times:
    """Both clocks, as the test sets them."""

    def __init__(self) -> None:
        self.day, self.passed = 1_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.day += seconds
        self.passed += seconds


def test_a_move_is_told_once_and_time_that_passes_is_none() -> None:
    times = Times()
    clock = Clock(lambda: times.day, lambda: times.passed)
    times.pass_by(3600)
    assert clock.moved() == ""
    times.day += 86400
    assert "forward by 86400 s" in clock.moved()
    times.pass_by(3600)
    assert clock.moved() == ""
    times.day -= 7200
    assert "back by 7200 s" in clock.moved()
    times.day += LEAST_MOVE - 1
    assert clock.moved() == ""


def test_the_clocks_of_this_machine_keep_together() -> None:
    assert Clock().moved() == ""


@pytest.mark.parametrize("moved", ["the time of day was moved", ""], ids=["moved", "right"])
def test_nothing_is_deleted_by_a_time_that_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: str
) -> None:
    async def check() -> bool:
        async with open_broker(tmp_path) as broker:
            job_id = await canceled(broker)
        age(tmp_path, 31)
        looks: asyncio.Queue[None] = asyncio.Queue()

        class Seen:
            def moved(self) -> str:
                looks.put_nowait(None)
                return moved

        monkeypatch.setattr(local, "Clock", Seen)
        monkeypatch.setattr(local, "RETAIN_SECONDS", 0)
        async with open_broker(tmp_path, retention=Retention(job_days=30)) as broker:
            # The second look follows the whole of the first round.
            await looks.get()
            await looks.get()
            try:
                await broker.job(job_id)
            except JobNotFound:
                return False
            return True

    assert run(check()) is bool(moved)
