"""The gallery's pages and its stream."""

import pytest

from runtime.gallery import Gallery
from runtime.jobs.protocol import ImageNotFound, JobStatus
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.support import Hand, gallery_events, read_all, run, submit


class GalleryOfPictures:
    """A part of the suite."""

    def test_the_gallery_is_paged_newest_first(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
                worker = Hand(broker)
                made = []
                for _ in range(7):
                    job = await submit(broker)
                    await worker.lease()
                    made.append(await worker.complete(job.job_id))
                found, cursor = [], None
                for _ in range(3):
                    page = await broker.images(3, cursor)
                    found.append([image.filename for image in page.images])
                    cursor = page.next_cursor
                    if len(found) == 1:  # What comes or goes meanwhile shifts no page.
                        await broker.delete_image(made[6].filename)
                        await submit(broker)
                        await worker.complete(*await worker.lease())
                names = [image.filename for image in reversed(made)]
                assert found == [names[:3], names[3:6], names[6:]]
                assert cursor is None

        run(check())

    def test_deleting_a_picture_removes_row_and_files(
        self, opened: Opener, gallery: Gallery
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                job = await submit(broker)
                worker = Hand(broker)
                await worker.lease()
                picture = await worker.draw(job.job_id, gallery)
                assert await broker.image(picture.filename) == picture
                assert (await broker.job(job.job_id)).image == picture

                await broker.delete_image(picture.filename)
                assert gallery.picture_path(picture.filename) is None
                assert gallery.thumbnail_path(picture.filename) is None
                assert (await broker.job(job.job_id)).image is None
                for lookup in (broker.image, broker.delete_image):
                    with pytest.raises(ImageNotFound):
                        await lookup(picture.filename)

        run(check())

    def test_a_picture_that_is_not_listed_yet_is_not_deleted(
        self, opened: Opener, gallery: Gallery
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                job_id = (await submit(broker)).job_id
                worker = Hand(broker)
                await worker.lease()
                gallery.add_picture(f"{job_id}.png", b"picture")
                with pytest.raises(ImageNotFound):
                    await broker.delete_image(f"{job_id}.png")
                assert list(gallery.names()) == [f"{job_id}.png"]

        run(check())

    def test_the_gallery_stream_tells_what_comes_and_goes(self, opened: Opener) -> None:
        async def check() -> None:
            async with opened() as broker:
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

    def test_a_deleted_picture_is_offered_by_no_event(
        self, opened: Opener, gallery: Gallery
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
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

    def test_the_gallery_is_resumed_where_it_was_left(
        self, opened: Opener, gallery: Gallery
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
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
        self, opened: Opener
    ) -> None:
        async def check() -> None:
            async with opened() as broker:
                worker = Hand(broker)
                first = await anext(gallery_events(broker))
                await submit(broker)
                picture = await worker.complete(*await worker.lease())
                await broker.delete_image(picture.filename)
                missed = gallery_events(broker, first.id)
                assert (await anext(missed)).image == picture
                assert (await anext(missed)).deleted == picture.filename

        run(check())
