from pathlib import Path

from runtime.gallery import Gallery
from runtime.jobs.protocol import JobStatus
from runtime.wire.messages import Shelved
from tests.runtime.jobs.support import MODEL, Hand, open_broker, run, submit


def test_files_of_a_canceled_job_that_cannot_be_removed_end_no_session(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            job_id = (await submit(broker)).job_id
            worker = Hand(broker)
            await worker.lease()
            await broker.cancel(job_id)
            place = tmp_path / "images" / f"{job_id}.png"
            place.mkdir()
            await worker.complete(job_id)
            assert (await broker.job(job_id)).status is JobStatus.CANCELED
        place.rmdir()
        gallery.add_picture(f"{job_id}.png", b"left")
        async with open_broker(tmp_path):
            assert list(gallery.names()) == []

    run(check())


def test_a_burst_goes_to_all_workers_that_have_places(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            one, other, full = Hand(broker), Hand(broker), Hand(broker)
            for hand, places in ((one, 4), (other, 4), (full, 0)):
                assert await hand.lease(places) == []
            jobs = [(await submit(broker)).job_id for _ in range(5)]
            assert await one.lease(4) == jobs[:3]
            assert await other.lease(4) == jobs[3:]
            later = (await submit(broker)).job_id
            # The other one holds fewer.
            assert await one.lease(1) == []
            assert await other.lease(2) == [later]

    run(check())


def test_a_worker_gets_jobs_of_what_it_has_loaded_until_another_models_is_due(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        async with open_broker(tmp_path, others=["far"]) as broker:
            worker = Hand(broker)
            worker.shelf = Shelved([MODEL], [], 0, {"far": 60.0})
            far = (await submit(broker, model="far")).job_id
            near = [(await submit(broker)).job_id for _ in range(2)]
            assert await worker.lease(8) == near
            later = (await submit(broker)).job_id
            assert await worker.lease(6) == [later]
            # With nothing else to draw, the worker is given the job that has to wait for its model.
            assert await worker.lease(5) == [far]
            last = (await submit(broker)).job_id
            assert await worker.lease(4) == []
            worker.shelf = Shelved([MODEL, "far"])
            assert await worker.lease(4) == [last]

    run(check())


def test_jobs_that_were_left_to_a_worker_that_goes_are_anothers(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_broker(tmp_path) as broker:
            one, other = Hand(broker), Hand(broker)
            await one.lease(2)
            await other.lease(2)
            jobs = [(await submit(broker)).job_id for _ in range(2)]
            assert await one.lease(2) == jobs[:1]
            woken = one.woken
            broker.leases.detach(other)
            assert one.woken == woken + 1
            assert await one.lease(1) == jobs[1:]

    run(check())
