"""Several streams of events as one."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from api.events import closing

EventT = TypeVar("EventT")


async def merged(streams: Sequence[AsyncIterator[EventT]]) -> AsyncIterator[EventT]:
    """The events of all streams, as they come; of those that are there at once, in their order.

    Ends with the last stream, or by the first error of one; every stream is closed then. Of each
    stream one event is read ahead.
    """
    async with AsyncExitStack() as stack:
        for stream in streams:
            await stack.enter_async_context(closing(stream))
        waiting = {asyncio.ensure_future(anext(stream)): stream for stream in streams}
        stack.push_async_callback(_abandon, waiting)
        while waiting:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in [each for each in waiting if each.done()]:
                stream = waiting.pop(task)
                try:
                    yield await task
                except StopAsyncIteration:
                    continue
                waiting[asyncio.ensure_future(anext(stream))] = stream


async def _abandon(waiting: Mapping["asyncio.Task[EventT]", object]) -> None:
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
