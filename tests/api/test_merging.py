"""Several streams as one: nothing is lost, and none stays open."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.events import closing
from api.merging import merged
from tests.runtime.jobs.support import run


class Streams:
    """Streams that tell what is put into them, until it is None; an exception is raised."""

    def __init__(self, number: int) -> None:
        self.queues = [asyncio.Queue[object]() for _ in range(number)]
        self.closed = 0

    def all(self) -> AsyncIterator[object]:
        return merged([self._told(queue) for queue in self.queues])

    async def _told(self, queue: "asyncio.Queue[object]") -> AsyncIterator[object]:
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed += 1


def test_events_come_as_they_are_told_and_those_of_one_stream_in_order() -> None:
    async def check() -> None:
        streams = Streams(3)
        for number, queue in enumerate(streams.queues):
            for item in (f"{number}a", f"{number}b", None):
                queue.put_nowait(item)
        assert [each async for each in streams.all()] == ["0a", "1a", "2a", "0b", "1b", "2b"]
        assert streams.closed == 3

    run(check())


def test_a_stream_that_waits_holds_up_no_other() -> None:
    async def check() -> None:
        streams = Streams(2)
        async with closing(streams.all()) as events:
            for item in ("a", "b"):
                streams.queues[1].put_nowait(item)
                assert await anext(events) == item
            streams.queues[1].put_nowait(None)
            streams.queues[0].put_nowait("late")
            assert await anext(events) == "late"
        assert streams.closed == 2

    run(check())


def test_an_error_of_one_is_raised_and_closes_all() -> None:
    async def check() -> None:
        streams = Streams(3)
        streams.queues[0].put_nowait("a")
        streams.queues[2].put_nowait(ValueError("broken"))
        events = streams.all()
        assert await anext(events) == "a"
        with pytest.raises(ValueError, match="broken"):
            await anext(events)
        assert streams.closed == 3

    run(check())
