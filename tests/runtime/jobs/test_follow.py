import asyncio
from contextlib import ExitStack
from pathlib import Path

from runtime.jobs.board import ENDED_LOGS
from runtime.jobs.log import GALLERY_EVENTS, GalleryLog
from runtime.jobs.protocol import GalleryEvent, JobStatus
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
