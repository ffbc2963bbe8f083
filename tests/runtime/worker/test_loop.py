"""A worker in a process of its own, on a tiny real model."""

import asyncio
import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from runtime.draw.costs import ENOUGH
from runtime.jobs.protocol import JobStatus
from runtime.plan.model import open_model
from runtime.wire.messages import (
    Assignment,
    Completed,
    Failed,
    Message,
    Paced,
    Ready,
    Stepped,
)
from tests.fakes.scripted_worker import ENGINES, PATIENCE, scripted_worker
from tests.runtime.jobs.serving import Server, serving

# Once warm, no preview is ever made.
NO_PREVIEW = """
import sys, threading
from runtime.draw.generate import Generator
from runtime.draw.preview import Previewer
from runtime.worker.main import leave, main

warm_up = Generator.warm_up

def never_from_now_on(self):
    warm_up(self)
    Previewer.jpeg = lambda *arguments: threading.Event().wait()

Generator.warm_up = never_from_now_on
leave(main(sys.argv[1:]))
"""

# Once warm, no step begins, and no picture is decoded, before the preview of the step before is
# made.
PREVIEWS_KEEP_UP = """
import sys, threading
from runtime.backends.host_denoiser import HostDenoiser
from runtime.draw.generate import Generator
from runtime.draw.preview import Previewer
from runtime.worker.main import leave, main

warm_up, jpeg = Generator.warm_up, Previewer.jpeg
advance, decode = HostDenoiser.advance, Generator.decode
shown = threading.Semaphore(1)

def jpeg_shown(self, *arguments):
    content = jpeg(self, *arguments)
    shown.release()
    return content

def advance_shown(self, rows):
    shown.acquire()
    advance(self, rows)

def decode_shown(self, latents):
    shown.acquire()
    return decode(self, latents)

def in_turns_from_now_on(self):
    warm_up(self)
    self.warm_up_loras()
    HostDenoiser.advance, Generator.decode = advance_shown, decode_shown
    Previewer.jpeg = jpeg_shown

Generator.warm_up = in_turns_from_now_on
leave(main(sys.argv[1:]))
"""

# Once warm, no preview is made before the last step is, and no picture before two previews are,
# which print what they show.
LATE_PREVIEWS = """
import sys, threading
from runtime.draw.generate import Generator
from runtime.draw.preview import Previewer
from runtime.worker.main import leave, main

warm_up, reading, decode = Generator.warm_up, Generator.reading, Generator.decode
read_predicted, jpeg = Generator.reading_predicted, Previewer.jpeg
drawn, shown, predicted = threading.Event(), threading.Semaphore(0), []

def reading_predicted(self, sample):
    made = read_predicted(self, sample)
    predicted.append(made())
    return made

def jpeg_late(self, latents, *size):
    drawn.wait()
    content = jpeg(self, latents, *size)
    print(next(step for step, each in enumerate(predicted, 1) if each is latents), flush=True)
    shown.release()
    return content

def reading_last(self, sample):
    drawn.set()
    return reading(self, sample)

def decode_last(self, latents):
    shown.acquire()
    shown.acquire()
    return decode(self, latents)

def late_from_now_on(self):
    warm_up(self)
    Generator.reading, Generator.reading_predicted = reading_last, reading_predicted
    Generator.decode, Previewer.jpeg = decode_last, jpeg_late

Generator.warm_up = late_from_now_on
leave(main(sys.argv[1:]))
"""

# A worker with nothing to do leaves once LoRAs are warmed up.
IDLE = """
import os, sys
from runtime.draw.generate import Generator
from runtime.worker import loop
from runtime.worker.main import leave, main

warm_up_loras = Generator.warm_up_loras

def leave(self):
    warm_up_loras(self)
    os._exit(40 if self._denoiser_loras.loaded else 41)

Generator.warm_up_loras, loop.IDLE_SECONDS = leave, 0
leave(main(sys.argv[1:]))
"""

# A worker that has rested leaves.
RESTS = """
import os, sys
from runtime.draw.generate import Generator
from runtime.worker import loop
from runtime.worker.main import leave, main

rest = Generator.rest

def leave_rested(self):
    kept = self.keeps_memory
    rest(self)
    os._exit(40 if kept and not self.keeps_memory else 41)

Generator.rest, loop.IDLE_SECONDS, loop.REST_SECONDS = leave_rested, 0, 0
leave(main(sys.argv[1:]))
"""

# The times of steps are written once the worker leaves, after its pictures are finished.
LATE_TIMES = """
import sys, threading
from runtime.draw.kept_costs import KeptCosts
from runtime.worker.finishing import Finishing
from runtime.worker.main import leave, main

write, close, leaving = KeptCosts.write, Finishing.close, threading.Event()

def write_late(self, times):
    leaving.wait()
    write(self, times)

def close_and_tell(self):
    close(self)
    leaving.set()

KeptCosts.write, Finishing.close = write_late, close_and_tell
leave(main(sys.argv[1:]))
"""

# The latents of the job of seed 13 are not finite, and the picture of seed 14 is black.
UNSOUND = """
import sys
import numpy as np
from runtime.draw.generate import Generator
from runtime.worker.main import leave, main

decode, reading = Generator.decode, Generator.reading

def reading_by_seed(self, sample):
    latents = reading(self, sample)()
    return lambda: latents * {13: np.nan, 14: 0}.get(sample.plan.request.seed, 1)

def decode_black(self, latents):
    pixels = decode(self, latents)
    return pixels if latents.any() else np.zeros_like(pixels)

Generator.decode, Generator.reading = decode_black, reading_by_seed
leave(main(sys.argv[1:]))
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
        job_id, (*steps, final) = await server.draw_told(width=128, height=64, preview_every=2)
        steps = [event for event in steps if event.status is JobStatus.PROCESSING]
        assert [event.step for event in steps] == [0, 1, 2, 3]
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
        _, events = await server.draw_told(steps=4, width=128, height=64, preview_every=3)
        shown = [event.preview for event in events if event.preview]
        assert len(shown) <= 2
        for url in shown:
            with Image.open(BytesIO(_bytes(url))) as image:
                assert (image.format, image.size) == ("JPEG", (128, 64))
        _, events = await server.draw_told(preview_every=0)
        assert not any(event.preview for event in events)

    runner.run(check())


def test_neither_a_step_nor_a_picture_waits_for_a_preview(tmp_path: Path) -> None:
    steps, dropped = _drawn(NO_PREVIEW, tmp_path)
    assert [(each.step, each.payload) for each in steps] == [(step, b"") for step in range(1, 7)]
    assert dropped == 6


def test_previews_that_keep_up_come_with_every_step(tmp_path: Path) -> None:
    steps, dropped = _drawn(PREVIEWS_KEEP_UP, tmp_path)
    assert [each.step for each in steps if each.payload.startswith(b"\xff\xd8")] == [*range(1, 7)]
    assert dropped == 0


def test_of_previews_that_fall_behind_the_newest_is_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps, dropped = _drawn(LATE_PREVIEWS, tmp_path)
    assert [each.step for each in steps] == [1, 2, 3, 4, 5, 6]
    assert [each.step for each in steps if each.payload] == [6]
    assert capfd.readouterr().out.split() == ["1", "6"]
    # That of the first step was ready when the last one's was already to be made.
    assert dropped == 5


def test_loras_are_warmed_up_while_there_is_nothing_to_do(tmp_path: Path) -> None:
    with scripted_worker(IDLE, tmp_path) as (worker, link):
        assert isinstance(link.receive(), Ready)
        assert worker.wait(PATIENCE) == 40


def test_the_memory_of_calls_is_given_back_while_there_is_nothing_to_do(tmp_path: Path) -> None:
    with scripted_worker(RESTS, tmp_path) as (worker, link):
        assert isinstance(link.receive(), Ready)
        assert worker.wait(PATIENCE) == 40


def test_a_worker_that_stops_has_written_the_times_of_its_steps(tmp_path: Path) -> None:
    _drawn(LATE_TIMES, tmp_path, steps=2 * ENOUGH)
    (times,) = json.loads((tmp_path / "step_times.json").read_bytes()).values()
    assert [step[0][:2] for step in times["steps"]] == [[8, 8]]
    assert list(tmp_path.glob(".*")) == []


def test_unsound_pictures_are_told_of_and_the_worker_goes_on(tmp_path: Path) -> None:
    ends: list[Message] = []
    with scripted_worker(UNSOUND, tmp_path) as (_, link):
        while not isinstance(link.receive(), Ready):
            pass
        for seed in (13, 14, 15):
            fields = {"prompt": "x", "seed": seed, "steps": 2, "width": 64, "height": 64}
            request = open_model(ENGINES, "demo").read(fields).to_json()
            link.send(Assignment(f"{seed:032x}", request))
            while not isinstance(said := link.receive(), Completed | Failed):
                pass
            ends.append(said)
    nan, black, sound = ends
    assert isinstance(nan, Failed)
    assert nan.title == "The picture could not be made"
    assert "not finite after the last step: 256 of 256 numbers" in nan.detail
    assert isinstance(black, Completed)
    assert "black all over" in black.warnings[0]
    assert isinstance(sound, Completed)
    assert sound.warnings == []


def _drawn(script: str, folder: Path, steps: int = 6) -> tuple[list[Stepped], int]:
    """The reports of the steps of a job, and the number of previews that were not made."""
    fields = {"prompt": "x", "seed": 1, "steps": steps, "width": 64, "height": 64}
    request = open_model(ENGINES, "demo").read(fields).to_json()
    said: list[Message] = []
    with scripted_worker(script, folder) as (worker, link):
        while not (said and isinstance(said[-1], Completed | Failed)):
            said.append(link.receive())
            if isinstance(said[-1], Ready):
                link.send(Assignment("0" * 32, request))
        assert isinstance(said[-1], Completed)
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
    stepped = [each for each in said if isinstance(each, Stepped)]
    return stepped, sum(each.previews_dropped for each in said if isinstance(each, Paced))


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
        (bad,) = await server.broker.submit("tiny", [impossible], 20)
        failed = await server.finish(bad.job_id)
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
