import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime.gallery import Gallery
from runtime.jobs.board import ENDED_LOGS
from runtime.jobs.log import GALLERY_EVENTS, GalleryLog
from runtime.jobs.protocol import GalleryEvent, JobNotFound, JobStatus
from tests.runtime.jobs.support import (
    Hand,
    gallery_events,
    open_broker,
    read,
    read_all,
    run,
    shown,
    submit,
)

WHOLE_LIFE = [
    ("queued", 2),
    ("queued", 1),
    ("processing", 0),
    ("processing", 1),
    ("processing", 2),
    ("processing", 3),
    ("completed", None),
]


def test_a_listener_sees_the_whole_life_in_order(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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

    run(check())


def test_a_stream_resumed_anywhere_misses_no_status(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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


def test_a_fresh_listener_gets_a_snapshot_of_now(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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


def test_after_the_end_a_listener_is_told_so_and_a_final_id_ends_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            (queued,) = await read(broker.follow(job.job_id), 1)
            worker = Hand(broker)
            await worker.lease()
            picture = await worker.complete(job.job_id)
            (final,) = await read_all(broker.follow(job.job_id))
            assert (final.status, final.image) == (JobStatus.COMPLETED, picture)
            missed = await read_all(broker.follow(job.job_id, queued.id))
            assert [shown(event) for event in missed] == [("processing", 0), ("completed", None)]
            assert await read_all(broker.follow(job.job_id, final.id)) == []
            assert await broker.seen_final(job.job_id, final.id)
            assert not await broker.seen_final(job.job_id, queued.id)
        async with open_broker(tmp_path) as broker:
            assert await broker.seen_final(job.job_id, final.id)
            assert await read_all(broker.follow(job.job_id, queued.id)) == [final]
            assert await read_all(broker.follow(job.job_id, final.id)) == []

    run(check())


def test_an_unknown_job_has_no_stream(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            with pytest.raises(JobNotFound):
                await anext(broker.follow("0" * 32))
            with pytest.raises(JobNotFound):
                await broker.seen_final("0" * 32, "final-completed")

    run(check())


def test_a_slow_reader_loses_previews_and_no_status(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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


def test_a_preview_is_encoded_once_for_all_listeners(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            worker.step(job.job_id, 1, b"preview")
            (first,) = await read(broker.follow(job.job_id), 1)
            (second,) = await read(broker.follow(job.job_id), 1)
            assert first.preview is second.preview is not None

    run(check())


def test_streams_end_when_the_server_stops(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
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


def test_the_logs_of_ended_jobs_are_bounded_and_their_end_is_still_told(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path, queue_limit=1000) as broker:
            jobs = await asyncio.gather(*(submit(broker) for _ in range(ENDED_LOGS + 2)))
            (queued,) = await read(broker.follow(jobs[0].job_id), 1)
            await asyncio.gather(*(broker.cancel(job.job_id) for job in jobs))
            for job in (jobs[0], jobs[-1]):
                events = await read_all(broker.follow(job.job_id, queued.id))
                assert events[-1].status is JobStatus.CANCELED

    run(check())


def test_the_gallery_stream_tells_what_comes_and_goes(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            worker, events = Hand(broker), gallery_events(broker)
            empty = await anext(events)
            assert (empty.snapshot, empty.newest) == (True, None)
            await submit(broker)
            picture = await worker.complete(*await worker.lease())
            assert (await anext(events)).image == picture
            late = await anext(gallery_events(broker))
            assert (late.snapshot, late.newest) == (True, picture.filename)
            await broker.delete_image(picture.filename)
            assert (await anext(events)).deleted == picture.filename

    run(check())


def test_a_gallery_listener_that_fell_far_behind_gets_a_snapshot(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path, queue_limit=GALLERY_EVENTS + 10) as broker:
            worker, events = Hand(broker), gallery_events(broker)
            await anext(events)
            await asyncio.gather(*(submit(broker) for _ in range(GALLERY_EVENTS + 5)))
            made = await asyncio.gather(
                *(worker.complete(job_id) for job_id in await worker.lease(GALLERY_EVENTS + 5))
            )
            event = await anext(events)
            assert event.snapshot
            assert event.newest == made[-1].filename
            await broker.delete_image(made[0].filename)
            assert (await anext(events)).deleted == made[0].filename

    run(check())


async def _rest(events: AsyncIterator[object]) -> list[object]:
    return [event async for event in events]


def test_a_deleted_picture_is_offered_by_no_event(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            picture = await worker.draw(job.job_id, gallery)
            (offered,) = (await read_all(broker.follow(job.job_id)))[-1:]
            assert offered.image == picture
            await broker.delete_image(picture.filename)
            (final,) = (await read_all(broker.follow(job.job_id)))[-1:]
            assert (final.status, final.image) == (JobStatus.COMPLETED, None)
            assert (await broker.job(job.job_id)).image is None

    run(check())


def test_the_gallery_is_resumed_where_it_was_left(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            job = await submit(broker)
            worker = Hand(broker)
            await worker.lease()
            first = gallery_events(broker)
            assert (await anext(first)).snapshot
            picture = await worker.draw(job.job_id, gallery)
            seen = await anext(first)
            assert seen.image == picture
            await broker.delete_image(picture.filename)
            again = await anext(gallery_events(broker, seen.id))
            assert again.deleted == picture.filename
            assert (await anext(gallery_events(broker, "of-another-server"))).snapshot

    run(check())


def test_the_gallery_is_resumed_from_a_stream_that_was_opened_before_the_first_event(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            worker = Hand(broker)
            opened = await anext(gallery_events(broker))
            await submit(broker)
            picture = await worker.complete(*await worker.lease())
            await broker.delete_image(picture.filename)
            missed = gallery_events(broker, opened.id)
            assert (await anext(missed)).image == picture
            assert (await anext(missed)).deleted == picture.filename

    run(check())


def test_an_id_from_before_all_that_is_kept_gets_a_snapshot() -> None:
    log = GalleryLog()
    opened = log.id_of(log.last)
    for number in range(GALLERY_EVENTS + 1):
        assert not log.lost_after(0)
        log.append(GalleryEvent("", deleted=str(number)))
    assert log.number(opened) == 0
    assert (log.lost_after(0), log.lost_after(1)) == (True, False)


def test_an_id_in_another_spelling_is_none_of_a_logs() -> None:
    log = GalleryLog()
    log.append(GalleryEvent("", deleted="x"))
    ours = log.id_of(1)
    assert log.number(ours) == 1
    mark = ours.partition("-")[0]
    for other in ("1", "0000001", "000002", "-00001", "00000１", "000001" * 1000):
        assert log.number(f"{mark}-{other}") is None


def test_a_crowd_is_told_at_once_and_then_in_rounds() -> None:
    async def check() -> None:
        log = GalleryLog()
        with ExitStack() as stack:
            for _ in range(1000):
                stack.enter_context(log.heard())
            first = log.bell.next_ring
            log.append(GalleryEvent("", deleted="1"))
            assert first.is_set()
            second = log.bell.next_ring
            for name in ("2", "3"):
                log.append(GalleryEvent("", deleted=name))
            assert not second.is_set()
            await second.wait()
        assert [event.deleted for _, event in log.all_after(1)] == ["2", "3"]

    run(check())


def test_who_listens_late_is_told_the_position_of_now(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            jobs = [await submit(broker) for _ in range(3)]
            await Hand(broker).lease()
            (event,) = await read(broker.follow(jobs[2].job_id), 1)
            assert shown(event) == ("queued", 2)
            assert (await broker.job(jobs[2].job_id)).queue_position == 2

    run(check())
