"""A worker in a process of its own, on a tiny real model."""

import asyncio
import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from runtime.jobs.protocol import JobStatus
from runtime.plan.model import open_model
from runtime.wire.messages import Assignment, Completed, Failed, Ready, Stepped
from runtime.worker.loop import PREVIEWS_WAITING
from tests.fakes.scripted_worker import ENGINES, PATIENCE, scripted_worker
from tests.runtime.jobs.serving import Server, serving

# Once warm, no preview is made before the last step is.
PREVIEW_LATE = """
import sys, threading
from runtime.draw.generate import Generator
from runtime.draw.preview import Previewer
from runtime.worker.main import main

warm_up, reading, jpeg = Generator.warm_up, Generator.reading, Previewer.jpeg
drawn = threading.Event()

def jpeg_late(*arguments):
    drawn.wait()
    return jpeg(*arguments)

def reading_last(*arguments):
    drawn.set()
    return reading(*arguments)

def late_from_now_on(self):
    warm_up(self)
    Generator.reading, Previewer.jpeg = reading_last, jpeg_late

Generator.warm_up = late_from_now_on
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def server(
    tiny_package: Path, tmp_path_factory: pytest.TempPathFactory, runner: asyncio.Runner
) -> Iterator[Server]:
    """One server for the whole file: nothing here takes its worker down."""
    context = serving(tiny_package, tmp_path_factory.mktemp("data"))
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


def test_a_job_reports_every_step_with_its_preview_and_then_its_picture(
    server: Server, runner: asyncio.Runner
) -> None:
    async def check() -> None:
        job_id = await server.submit(width=128, height=64, preview_every=2)
        *steps, final = await server.events(job_id)
        steps = [event for event in steps if event.status is JobStatus.PROCESSING]
        assert [event.step for event in steps][-3:] == [1, 2, 3]
        job = await server.broker.job(job_id)
        assert final.image == job.image
        assert job.image is not None
        assert (job.image.width, job.image.height, job.image.seed) == (128, 64, 7)
        assert job.image.filename == f"{job_id}.png"
        with Image.open(BytesIO(server.picture(job))) as picture:
            assert picture.size == (128, 64)
            assert "a red apple" in picture.info["parameters"]
        small = server.gallery.thumbnail_path(job.image.filename)
        assert small is not None
        with Image.open(small) as image:
            assert image.format == "WEBP"

    runner.run(check())


def test_previews_are_jpegs_of_the_pictures_shape_for_the_steps_that_were_asked_for(
    server: Server, runner: asyncio.Runner
) -> None:
    async def check() -> None:
        job_id = await server.submit(steps=4, width=128, height=64, preview_every=3)
        shown = {event.step for event in await server.events(job_id) if event.preview}
        assert shown <= {3, 4}
        none = await server.submit(preview_every=0)
        assert not any(event.preview for event in await server.events(none))

    runner.run(check())


def test_a_picture_that_a_listener_follows_has_a_preview_at_every_step(
    server: Server, runner: asyncio.Runner
) -> None:
    async def check() -> None:
        job_id = await server.submit(steps=4, width=128, height=64)
        previews = {
            event.step: event.preview for event in await server.events(job_id) if event.preview
        }
        assert set(previews) == {1, 2, 3, 4}
        for url in previews.values():
            with Image.open(BytesIO(_bytes(url))) as image:
                assert (image.format, image.size) == ("JPEG", (128, 64))

    runner.run(check())


def test_no_step_waits_for_a_preview(tmp_path: Path) -> None:
    steps = PREVIEWS_WAITING + 2
    fields = {"prompt": "x", "seed": 1, "steps": steps, "width": 64, "height": 64}
    request = open_model(ENGINES, "demo").read(fields).to_json()
    reported: list[Stepped] = []
    with scripted_worker(PREVIEW_LATE, tmp_path) as (worker, link):
        while not isinstance(message := link.receive(), Completed):
            assert not isinstance(message, Failed)
            if isinstance(message, Ready):
                link.send(Assignment("0" * 32, request))
            if isinstance(message, Stepped):
                reported.append(message)
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
    assert [each.step for each in reported] == list(range(1, steps + 1))
    shown = [each.step for each in reported if each.payload]
    assert shown == list(range(1, PREVIEWS_WAITING + 1))


def test_ten_jobs_at_once_give_the_pictures_that_they_give_alone(
    server: Server, runner: asyncio.Runner
) -> None:
    async def check() -> None:
        wishes = [
            {"seed": n, "prompt": f"{n} cats", "cfg_scale": 1.0 + n % 3, "steps": 2 + n % 3}
            for n in range(10)
        ]
        alone = [
            server.picture(await server.finish(await server.submit(**wish))) for wish in wishes
        ]
        ids = [await server.submit(**wish) for wish in wishes]
        jobs = await asyncio.gather(*(server.finish(job_id) for job_id in ids))
        together = [server.picture(job) for job in jobs]
        assert together == alone
        assert len(set(together)) == 10

    runner.run(check())


def test_a_job_joins_the_batch_that_is_running(server: Server, runner: asyncio.Runner) -> None:
    async def check() -> None:
        size = {"width": 256, "height": 256}
        long = await server.submit(steps=100, **size)
        await server.reach(long, 1)
        short = await server.finish(await server.submit(steps=1, **size))
        assert short.status is JobStatus.COMPLETED
        assert (await server.broker.job(long)).status is JobStatus.PROCESSING
        await server.broker.cancel(long)
        assert (await server.finish(long)).status is JobStatus.CANCELED

    runner.run(check())


def test_a_cancel_acts_between_steps_and_leaves_the_neighbours_alone(
    server: Server, runner: asyncio.Runner
) -> None:
    async def check() -> None:
        size = {"width": 256, "height": 256}
        alone = server.picture(await server.finish(await server.submit(steps=12, **size)))
        doomed = await server.submit(steps=100, seed=1, **size)
        neighbour = await server.submit(steps=12, **size)
        await server.reach(doomed, 2)
        asked = await server.broker.cancel(doomed)
        assert asked.cancel_requested
        canceled = await server.finish(doomed)
        assert canceled.status is JobStatus.CANCELED
        assert canceled.step < 100
        assert server.picture(await server.finish(neighbour)) == alone
        assert server.gallery.picture_path(f"{doomed}.png") is None

    runner.run(check())


def test_a_job_that_cannot_be_planned_fails_alone(server: Server, runner: asyncio.Runner) -> None:
    async def check() -> None:
        good = await server.submit(steps=6)
        request = server.model.read({"prompt": "x"}).to_json()
        impossible = {**request, "sampler": "no such sampler"}
        bad = (await server.broker.submit("tiny", impossible, 20)).job_id
        failed = await server.finish(bad)
        assert failed.status is JobStatus.FAILED
        assert failed.error is not None
        assert "no such sampler" in failed.error.detail
        assert failed.attempt == 1
        assert (await server.finish(good)).status is JobStatus.COMPLETED

    runner.run(check())


@pytest.mark.parametrize(
    ("output_format", "extension", "kind"),
    [("webp", "webp", "WEBP"), ("jpeg", "jpg", "JPEG")],
)
def test_other_formats(
    server: Server, runner: asyncio.Runner, output_format: str, extension: str, kind: str
) -> None:
    async def check() -> None:
        job = await server.finish(await server.submit(output_format=output_format))
        assert job.image is not None
        assert job.image.filename == f"{job.job_id}.{extension}"
        with Image.open(BytesIO(server.picture(job))) as image:
            assert image.format == kind

    runner.run(check())


def _bytes(url: str | None) -> bytes:
    assert url is not None
    return base64.b64decode(url.removeprefix("data:image/jpeg;base64,"), validate=True)
