from pathlib import Path

from runtime.gallery import Gallery
from tests.runtime.jobs.support import Hand, open_broker, run, submit


def test_a_picture_that_was_put_back_is_not_removed(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            await submit(broker)
            worker = Hand(broker)
            picture = await worker.draw(*await worker.lease(), gallery)
            await broker.delete_image(picture.filename)
        gallery.add_picture(picture.filename, b"from a backup")
        async with open_broker(tmp_path):
            assert list(gallery.names()) == [picture.filename]

    run(check())


def test_what_a_dead_server_left_half_done_is_tidied(tmp_path: Path) -> None:
    async def check() -> None:
        gallery = Gallery(tmp_path)
        async with open_broker(tmp_path) as broker:
            unfinished, canceled = await submit(broker), await submit(broker)
            await broker.cancel(canceled.job_id)
            await Hand(broker).lease()
        stranger = "f" * 32
        for job_id in (unfinished.job_id, canceled.job_id, stranger):
            gallery.add_picture(f"{job_id}.png", b"old")
            gallery.add_thumbnail(f"{job_id}.png", b"old")
        half = tmp_path / "images" / f".{unfinished.job_id}.png.0badcafe.tmp"
        half.write_bytes(b"hal")
        async with open_broker(tmp_path) as broker:
            assert not half.exists()
            # The next attempt writes over the first; a canceled job has no picture; of a job that
            # this database does not know, nothing is touched.
            assert set(gallery.names()) == {f"{unfinished.job_id}.png", f"{stranger}.png"}
            worker = Hand(broker)
            await worker.lease()
            picture = await worker.draw(unfinished.job_id, gallery)
            assert len((await broker.images(5, None)).images) == 1
            path = gallery.picture_path(picture.filename)
            assert path is not None
            assert path.read_bytes() == b"picture"

    run(check())
