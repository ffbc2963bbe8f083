"""Pictures that callers of AUTOMATIC1111's API have asked for and are waiting for.

Its clients know no ids: they ask for "the" progress, and interrupt what is drawn. Here that is what
they themselves have asked for by that API. The event loop's alone; a restart forgets it, and the
jobs go on.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from api.a1111.answers import Progress, State
from runtime.jobs.protocol import JobEvent, JobStatus


@dataclass(eq=False, slots=True)
class Drawing:
    """The jobs of one request, with the last event of each; and whether it was interrupted."""

    owner: str
    events: dict[str, JobEvent | None]
    preview: str | None = None
    """The newest preview, a data URL."""
    interrupted: bool = False
    began: float = field(default_factory=time.monotonic)

    def heard(self, job_id: str, event: JobEvent) -> None:
        """A job has told of itself."""
        self.events[job_id] = event
        self.preview = event.preview or self.preview

    @property
    def drawn(self) -> float:
        """The share of all steps that are done."""
        return sum(map(_share, self.events.values())) / len(self.events)

    @property
    def unfinished(self) -> Sequence[str]:
        """The jobs that have not ended."""
        return [job_id for job_id, event in self.events.items() if not _ended(event)]

    @property
    def processing(self) -> Sequence[str]:
        """The jobs that are being drawn."""
        return [
            job_id
            for job_id, event in self.events.items()
            if event is not None and event.status is JobStatus.PROCESSING
        ]

    def progress(self, *, with_image: bool) -> Progress:
        """The progress, and the newest preview."""
        drawn = self.drawn
        seconds = time.monotonic() - self.began
        steps = [event for event in self.events.values() if event is not None and event.total_steps]
        newest = steps[-1] if steps else None
        return Progress(
            progress=drawn,
            eta_relative=seconds / drawn - seconds if drawn else 0.0,
            state=State(
                interrupted=self.interrupted,
                job="txt2img",
                job_count=len(self.events),
                job_no=len(self.events) - len(self.unfinished),
                sampling_step=newest.step or 0 if newest else 0,
                sampling_steps=newest.total_steps or 0 if newest else 0,
            ),
            current_image=self.preview.partition(",")[2] if with_image and self.preview else None,
        )


class Drawings:
    """All requests that are being waited for, the oldest first."""

    def __init__(self) -> None:
        """None yet."""
        self._open: list[Drawing] = []

    @contextmanager
    def drawing(self, owner: str, job_ids: Sequence[str]) -> Iterator[Drawing]:
        """Note the jobs of a request while the context is open."""
        drawing = Drawing(owner, dict.fromkeys(job_ids))
        self._open.append(drawing)
        try:
            yield drawing
        finally:
            self._open.remove(drawing)

    def of(self, owner: str) -> Sequence[Drawing]:
        """The requests of one caller; of everybody where the server takes no keys."""
        return [each for each in self._open if each.owner == owner]


def _ended(event: JobEvent | None) -> bool:
    return event is not None and event.status.ended


def _share(event: JobEvent | None) -> float:
    if event is None or event.status is JobStatus.QUEUED:
        return 0.0
    if event.status.ended or not event.total_steps:
        return 1.0
    return (event.step or 0) / event.total_steps
