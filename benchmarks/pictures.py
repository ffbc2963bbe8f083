"""Pictures drawn and timed in this process, by the runtime's own generator."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.serving import NEGATIVE, request_body
from runtime.backends.catalog import Choice, choose, open_backend
from runtime.backends.devices import find_devices
from runtime.backends.protocol import Array
from runtime.backends.wishes import BackendWish
from runtime.draw.decode import Pixels
from runtime.draw.denoise import Prepared, Sample, StepEvent
from runtime.draw.generate import Generator
from runtime.draw.infotext import infotext
from runtime.draw.preview import thumbnail
from runtime.draw.recipe import encode_picture
from runtime.files import write_whole
from runtime.package.pack import LoraSet
from runtime.plan.model import Model, open_model
from runtime.plan.plan import Plan
from runtime.plan.served import served_by
from runtime.wire.options import DrawOptions

PREVIEWS_WAITING = 2
"""Most previews that wait to be made, as in the worker; further steps have none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Size of a side, steps and sampler of the pictures to draw."""

    size: int
    steps: int
    sampler: str | None = None
    """None for the model's own."""

    def body(self, model: Model, number: int) -> dict[str, Any]:
        """Request for the picture of this number; guided where the model takes guidance."""
        negative = model.family.facts(model.package.manifest).negative_prompt
        extra = {"negative_prompt": NEGATIVE} if negative else {}
        if self.sampler:
            extra["sampler"] = self.sampler
        return request_body(self.size, self.steps, number, **extra)


def generator_on(
    model: Model,
    wish: BackendWish,
    *,
    threads: int | None = None,
    captures: bool = True,
    options: DrawOptions | None = None,
) -> tuple[Generator, Choice]:
    """Generator of a model on the backend that is chosen here, not warmed up; and the choice."""
    choice = choose(model.package, wish, find_devices())
    backend = open_backend(model.package, choice, threads, captures=captures)
    served = served_by(choice.target, model.package.manifest)
    return Generator(model, backend, options, served), choice


def opened_generator(
    engines: Path,
    name: str,
    wish: BackendWish,
    *,
    captures: bool,
    options: DrawOptions | None = None,
) -> tuple[Generator, dict[str, Any]]:
    """Generator opened and warmed up as a worker's; its backend and the seconds of each part."""
    began = time.perf_counter()
    model = open_model(engines.resolve(), name)
    checked = time.perf_counter()
    generator, choice = generator_on(model, wish, captures=captures, options=options)
    ready = time.perf_counter()
    generator.warm_up()
    generator.warm_up_loras()
    return generator, {
        "backend": choice.backend,
        "target": choice.target_name,
        "note": choice.note,
        "check_files_seconds": round(checked - began, 2),
        "open_seconds": round(ready - checked, 2),
        "warm_up_seconds": round(time.perf_counter() - ready, 2),
    }


class Previews:
    """Previews of a picture's steps, made by a thread of their own while further steps run."""

    def __init__(self, generator: Generator, thread: ThreadPoolExecutor) -> None:
        """`thread` has one thread, as the worker's reporter."""
        self._generator = generator
        self._thread = thread
        self._room = threading.BoundedSemaphore(PREVIEWS_WAITING)
        self._made: list[Future[float]] = []

    def show(self, event: StepEvent) -> None:
        """Begin the preview of a step, unless too many are waiting."""
        if not self._room.acquire(blocking=False):
            return
        request, reading = (
            event.sample.plan.request,
            self._generator.reading_predicted(event.sample),
        )

        def make() -> float:
            began = time.perf_counter()
            try:
                self._generator.previewer.jpeg(reading(), request.width, request.height)
            finally:
                self._room.release()
            return time.perf_counter() - began

        self._made.append(self._thread.submit(make))

    def finished(self) -> list[float]:
        """Wait for all previews; the seconds of each. Raises what the making of one raised."""
        return [future.result() for future in self._made]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Picture that was drawn alone, and the marks of the clock on its way."""

    plan: Plan
    latents: Array
    pixels: Pixels
    began: float
    encoded: float
    steps: tuple[float, ...]
    """After the host's part of each step."""
    denoised: float
    """After the latents were read back."""
    decoded: float

    @property
    def step(self) -> float:
        """Seconds of a step; 0 for a picture of one step."""
        # The host runs one step ahead: its second mark is the end of the device's first step.
        marks = self.steps
        return (self.denoised - marks[1]) / (len(marks) - 1) if len(marks) > 1 else 0.0

    @property
    def between_steps(self) -> float:
        """Seconds from one step's end to the next one's on average; 0 for a picture of one step."""
        marks = self.steps
        return (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else 0.0


def _drawing(
    generator: Generator, body: Mapping[str, Any], loras: LoraSet, previews: Previews | None
) -> Drawing:
    model = generator.model
    began = time.perf_counter()
    plan = replace(model.plan(model.read(body)), loras=loras)
    prepared = generator.prepare(plan)
    encoded = time.perf_counter()
    marks, latents = [], None
    for event in _steps(generator, prepared):
        marks.append(time.perf_counter())
        if previews and plan.wants_preview(event.step):
            previews.show(event)
        if event.finished:
            latents = generator.latents(event.sample)
    denoised = time.perf_counter()
    assert latents is not None
    pixels = generator.decode(latents)
    return Drawing(
        plan, latents, pixels, began, encoded, tuple(marks), denoised, time.perf_counter()
    )


def draw(
    generator: Generator,
    body: Mapping[str, Any],
    *,
    loras: LoraSet = (),
    previews: Previews | None = None,
) -> tuple[dict[str, float], Array]:
    """Draw one picture alone, latents read back and decoded; milliseconds, and the latents.

    With `previews` the picture ends with the last of them.
    """
    drawn = _drawing(generator, body, loras, previews)
    counted = {"previews": float(len(previews.finished()))} if previews else {}
    ended = time.perf_counter()
    found = {
        "picture_ms": ended - drawn.began,
        "text_ms": drawn.encoded - drawn.began,
        "to_latents_ms": drawn.denoised - drawn.began,
        "first_step_ms": drawn.steps[0] - drawn.began,
        "decode_ms": ended - drawn.denoised,
        "step_ms": drawn.step,
    }
    times = {name: round(1e3 * seconds, 3) for name, seconds in found.items()}
    return times | counted, drawn.latents


def draw_into_file(
    generator: Generator, body: Mapping[str, Any], thread: ThreadPoolExecutor, path: Path
) -> dict[str, float]:
    """Draw one picture alone as a worker does, with the previews that it asks for, and write it;
    milliseconds of its stages. `thread` has one thread, for the previews.
    """
    previews = Previews(generator, thread)
    drawn = _drawing(generator, body, (), previews)
    model, request = generator.model, drawn.plan.request
    text = infotext(drawn.plan, model.manifest, model.facts)
    content = encode_picture(drawn.pixels, request, text).content
    write_whole(path.with_suffix(".thumbnail.webp"), thumbnail(drawn.pixels))
    write_whole(path, content)
    saved = time.perf_counter()
    made = previews.finished()
    found = {
        "total": time.perf_counter() - drawn.began,
        "text": drawn.encoded - drawn.began,
        "step": drawn.between_steps,
        "VAE": drawn.decoded - drawn.denoised,
        "save": saved - drawn.decoded,
        **({"preview": median(made)} if made else {}),
    }
    return {name: 1e3 * seconds for name, seconds in found.items()}


def _steps(generator: Generator, picture: Prepared) -> Iterator[StepEvent]:
    """The denoising loop over one picture alone."""
    waiting = [generator.admit(picture)]

    def arrivals(_free: int) -> Sequence[Sample]:
        return [waiting.pop()] if waiting else []

    return chain.from_iterable(generator.turns(arrivals))


def draw_with_previews(generator: Generator, body: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of a picture with a preview of every step, as `draw` has them."""
    with ThreadPoolExecutor(1, "previews") as thread:
        return draw(generator, body, previews=Previews(generator, thread))[0]


def sampled(latents: Array) -> dict[str, Any]:
    """Sample of the latents, enough to see whether two runs drew the same picture."""
    return {
        "finite": bool(np.isfinite(latents).all()),
        "deviation": float(latents.std()),
        "values": [round(float(value), 5) for value in latents.flat[:: latents.size // 32]],
    }
