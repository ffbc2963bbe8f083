from pathlib import Path

from runtime.gallery import Gallery
from runtime.jobs.protocol import JobStatus
from tests.runtime.jobs.support import Hand, open_broker, run, submit


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
