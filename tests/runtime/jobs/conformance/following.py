"""Streams of a job's events, resumed anywhere."""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from runtime.jobs.protocol import (
    JobNotFound,
    JobStatus,
)
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.support import Hand, gallery_events, read, read_all, run, shown, submit

WHOLE_LIFE = [
    ("queued", 2),
    ("queued", 1),
    ("processing", 0),
    ("processing", 1),
    ("processing", 2),
    ("processing", 3),
    ("completed", None),
]


class Following:
    """A part of the suite."""

    def test_a_listener_sees_the_whole_life_in_order(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                await submit(broker)
                job = await submit(broker)
                worker, events = Hand(broker), broker.follow(job.job_id)
                seen = await read(events, 1)
                await worker.lease()
                seen += await read(events, 1)
                await worker.lease()
                seen += await read(events, 1)
                for step in (1, 2, 3):
                    worker.step(job.job_id, step, b"jpeg %d" % step)
                    seen += await read(events, 1)
                picture = await worker.complete(job.job_id)
                seen += await read_all(events)
                assert [shown(event) for event in seen] == WHOLE_LIFE
                assert seen[-1].image == picture
                previews = [event.preview for event in seen if event.preview]
                assert len(previews) == 3
                head, _, data = previews[1].partition(",")
                assert head == "data:image/jpeg;base64"
                assert base64.b64decode(data) == b"jpeg 2"
                ids = [event.id for event in seen]
                assert len(set(ids)) == len(ids)
                assert ids[:-1] == sorted(ids[:-1])
                # A batch's events join them by commas.
                assert not any("," in each for each in ids)

        run(check())

    def test_a_stream_resumed_anywhere_misses_no_status(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                whole = broker.follow(job.job_id)
                seen = await read(whole, 1)
                await worker.lease()
                worker.step(job.job_id, 1)
                await worker.die()
                await Hand(broker).lease()
                seen += await read(whole, 4)
                assert [shown(event) for event in seen] == [
                    ("queued", 1),
                    ("processing", 0),
                    ("processing", 1),
                    ("queued", 1),
                    ("processing", 0),
                ]
                for index, event in enumerate(seen[:-1]):
                    resumed = broker.follow(job.job_id, event.id)
                    assert await read(resumed, 4 - index) == seen[index + 1 :]

        run(check())

    def test_a_fresh_listener_gets_a_snapshot_of_now(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                worker.step(job.job_id, 1, b"one")
                worker.step(job.job_id, 2, b"two")
                for last_event_id in (
                    None,
                    "garbage",
                    "final-completed",
                    "00000000-000001",
                    "-",
                    "é-²",
                ):
                    (event,) = await read(broker.follow(job.job_id, last_event_id), 1)
                    assert shown(event) == ("processing", 2)
                    assert event.preview is not None

        run(check())

    def test_after_the_end_a_listener_is_told_so_and_a_final_id_ends_it(
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                (queued,) = await read(broker.follow(job.job_id), 1)
                worker = Hand(broker)
                await worker.lease()
                picture = await worker.complete(job.job_id)
                (final,) = await read_all(broker.follow(job.job_id))
                assert (final.status, final.image) == (JobStatus.COMPLETED, picture)
                missed = await read_all(broker.follow(job.job_id, queued.id))
                assert [shown(event) for event in missed] == [
                    ("processing", 0),
                    ("completed", None),
                ]
                assert await read_all(broker.follow(job.job_id, final.id)) == []
                assert await broker.seen_final(job.job_id, final.id)
                assert not await broker.seen_final(job.job_id, queued.id)
            async with opened() as broker:
                assert await broker.seen_final(job.job_id, final.id)
                assert await read_all(broker.follow(job.job_id, queued.id)) == [final]
                assert await read_all(broker.follow(job.job_id, final.id)) == []

        run(check())

    def test_an_unknown_job_has_no_stream(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                with pytest.raises(JobNotFound):
                    await anext(broker.follow("0" * 32))
                with pytest.raises(JobNotFound):
                    await broker.seen_final("0" * 32, "final-completed")

        run(check())

    def test_a_slow_reader_loses_previews_and_no_status(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker, steps=50)
                worker, events = Hand(broker), broker.follow(job.job_id)
                await read(events, 1)
                await worker.lease()
                for step in range(1, 51):
                    worker.step(job.job_id, step, b"preview")
                seen = await read(events, 51)
                assert [event.step for event in seen] == list(range(51))
                assert [event.step for event in seen if event.preview] == [50]

        run(check())

    def test_a_preview_is_encoded_once_for_all_listeners(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                worker.step(job.job_id, 1, b"preview")
                (first,) = await read(broker.follow(job.job_id), 1)
                (second,) = await read(broker.follow(job.job_id), 1)
                assert first.preview is second.preview is not None

        run(check())

    def test_streams_end_when_the_server_stops(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                events, gallery = broker.follow(job.job_id), gallery_events(broker)
                await anext(events)
                await anext(gallery)
                rest = [asyncio.ensure_future(_rest(events)), asyncio.ensure_future(_rest(gallery))]
                await asyncio.sleep(0)  # Both wait for news now.
                assert not any(task.done() for task in rest)
                broker.stop()
                assert await asyncio.gather(*rest) == [[], []]
                assert await _rest(broker.follow(job.job_id)) == []

        run(check())


async def _rest(events: AsyncIterator[object]) -> list[object]:
    return [event async for event in events]
