"""Types of the API's answers, which `/docs` shows.

A type that stands for a type of the runtime is made from an instance of that by its `of`.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from runtime.jobs import facts, protocol
from runtime.jobs.facts import WorkerState
from runtime.jobs.protocol import JobStatus
from runtime.plan import served
from runtime.plan.parameters import LoraOffer


class Schema(BaseModel):
    """Base of all answers: frozen."""

    model_config = ConfigDict(frozen=True)


class Fault(Schema):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to the wrong value.")
    detail: str


class Problem(Schema):
    """An error, as RFC 9457 wants it: `application/problem+json`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = Field(None, description="Every fault of a request that is wrong.")


class Image(Schema):
    """A finished picture."""

    filename: str
    url: str
    thumb_url: str
    width: int
    height: int
    seed: int
    prompt: str
    model: str
    created_at: datetime
    job_id: str
    size_bytes: int

    @classmethod
    def of(cls, image: protocol.Image) -> "Image":
        """The picture as the API shows it."""
        return cls(
            filename=image.filename,
            url=f"/api/images/{image.filename}",
            thumb_url=f"/api/thumbs/{image.filename}",
            width=image.width,
            height=image.height,
            seed=image.seed,
            prompt=image.prompt,
            model=image.model,
            created_at=image.created_at,
            job_id=image.job_id,
            size_bytes=image.size_bytes,
        )


class ImagePage(Schema):
    """A page of the gallery, newest first."""

    images: list[Image]
    next_cursor: str | None = Field(description="Ask for the next page with it; null on the last.")


class JobError(Schema):
    """Why a job failed."""

    title: str
    detail: str

    @classmethod
    def of(cls, error: protocol.JobError) -> "JobError":
        """The reason as the API shows it."""
        return cls(title=error.title, detail=error.detail)


class Accepted(Schema):
    """A job that was taken: it is on disk, and will be drawn."""

    job_id: str
    status: JobStatus
    queue_position: int | None = Field(description="1 for the job that is next.")
    job_url: str
    events_url: str

    @classmethod
    def of(cls, job: protocol.Job) -> "Accepted":
        """The job's status, and the addresses of the job and its events."""
        return cls(
            job_id=job.job_id,
            status=job.status,
            queue_position=job.queue_position,
            job_url=job_url(job.job_id),
            events_url=f"/api/sse/{job.job_id}",
        )


class AcceptedBatch(Schema):
    """The jobs of one request for several pictures: all are on disk, and will be drawn."""

    batch_id: str
    events_url: str = Field(description="The events of all these jobs as one stream.")
    jobs: list[Accepted] = Field(description="In the order of their seeds.")

    @classmethod
    def of(cls, jobs: Sequence[protocol.Job]) -> "AcceptedBatch":
        """The jobs of one batch as the API shows them."""
        batch_id = jobs[0].batch_id
        assert batch_id is not None
        return cls(
            batch_id=batch_id,
            events_url=f"/api/sse/batch/{batch_id}",
            jobs=[Accepted.of(job) for job in jobs],
        )


class Job(Schema):
    """A job as it is now; what does not apply is null."""

    job_id: str
    model: str
    status: JobStatus
    step: int
    total_steps: int
    queue_position: int | None = Field(description="1 for the job that is next.")
    attempt: int = Field(description="How often the job was begun; 0 while it never was.")
    priority: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    request: dict[str, Any] = Field(
        description="The complete body: every default filled in, the seed that was drawn."
    )
    image: Image | None
    error: JobError | None
    cancel_requested: bool
    warnings: list[str] = Field(
        description="What in the prompts is taken as text though other tools give it a meaning, "
        "what the finished picture's file lacks of its recipe, and the tiles that the picture was "
        "decoded in where the memory did not hold it whole."
    )

    @classmethod
    def of(cls, job: protocol.Job, warnings: Sequence[str]) -> "Job":
        """The job as the API shows it, with warnings about its request."""
        return cls(
            job_id=job.job_id,
            model=job.model,
            status=job.status,
            step=job.step,
            total_steps=job.total_steps,
            queue_position=job.queue_position,
            attempt=job.attempt,
            priority=job.priority,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            request=dict(job.request),
            image=Image.of(job.image) if job.image else None,
            error=JobError.of(job.error) if job.error else None,
            cancel_requested=job.cancel_requested,
            warnings=[*warnings, *job.warnings],
        )


def job_url(job_id: str) -> str:
    """The address of a job."""
    return f"/api/jobs/{job_id}"


class Queued(Schema):
    """The job waits."""

    status: Literal["queued"] = "queued"
    queue_position: int | None


class Processing(Schema):
    """A step was made."""

    status: Literal["processing"] = "processing"
    step: int
    total_steps: int
    preview: str | None = Field(
        description="A JPEG as a data URL; null where there is none. Where previews fall behind "
        "the steps, an earlier step's: the newest one is shown, and others are left out."
    )


class Completed(Schema):
    """The picture is there; null if it has been deleted since."""

    status: Literal["completed"] = "completed"
    image: Image | None


class Failed(Schema):
    """The job ended without a picture."""

    status: Literal["failed"] = "failed"
    error: JobError


class Canceled(Schema):
    """The job was canceled."""

    status: Literal["canceled"] = "canceled"


JobEvent = Annotated[
    Queued | Processing | Completed | Failed | Canceled, Field(discriminator="status")
]


def in_batch(job_id: str, event: JobEvent) -> str:
    """The JSON of a job's event in the stream of its batch."""
    return json.dumps({"job_id": job_id, **event.model_dump(mode="json")})


class GallerySnapshot(Schema):
    """How the gallery stands when the stream begins."""

    event: Literal["snapshot"] = "snapshot"
    newest: str | None


class ImageAdded(Schema):
    """A new picture."""

    event: Literal["image"] = "image"
    image: Image


class ImageDeleted(Schema):
    """A picture is gone."""

    event: Literal["deleted"] = "deleted"
    filename: str


GalleryEvent = Annotated[GallerySnapshot | ImageAdded | ImageDeleted, Field(discriminator="event")]


class ModelInfo(Schema):
    """The model that is described."""

    name: str
    family: str
    source: str
    description: str
    vocabulary: list[str] = Field(
        description="The things that the model can draw; empty where nobody could list them."
    )


class LoraInfo(Schema):
    """A LoRA that a request may name."""

    id: str
    name: str
    triggers: str
    weight: float
    trigger_weight: float

    @classmethod
    def of(cls, offer: LoraOffer) -> "LoraInfo":
        """The LoRA as the API shows it."""
        return cls(
            id=offer.id,
            name=offer.name,
            triggers=offer.triggers,
            weight=offer.weight,
            trigger_weight=offer.trigger_weight,
        )


class SizeRange(Schema):
    """Pictures whose sides lie between these, in pixels, both ends included."""

    min_width: int
    max_width: int
    min_height: int
    max_height: int

    @classmethod
    def of(cls, sizes: served.SizeRange) -> "SizeRange":
        """The range as the API shows it."""
        return cls(
            min_width=sizes.min_width,
            max_width=sizes.max_width,
            min_height=sizes.min_height,
            max_height=sizes.max_height,
        )


class EngineInfo(Schema):
    """What the pictures are made with; null until a worker has loaded the model."""

    backend: str | None
    target: str | None
    device: str | None
    precision: str | None
    ready_since: datetime | None
    sizes: list[SizeRange] | None = Field(
        description="What sizes of `parameters` they take; null where they take every one."
    )
    note: str

    @classmethod
    def of(cls, engine: facts.EngineFacts | None, *, default: bool = True) -> "EngineInfo":
        """The engines of the default model, or of another, as the API shows them."""
        if engine is None:
            note = "the model is " + ("being loaded" if default else "loaded when a job names it")
            return cls(
                backend=None,
                target=None,
                device=None,
                precision=None,
                ready_since=None,
                sizes=None,
                note=note,
            )
        return cls(
            backend=engine.backend,
            target=engine.target,
            device=engine.device,
            precision=engine.precision,
            ready_since=engine.ready_since,
            sizes=[SizeRange.of(each) for each in engine.served.sizes] or None,
            note=engine.note,
        )


class Info(Schema):
    """What this server draws with, and what a request may say."""

    model: ModelInfo
    models: list[str] = Field(
        description="The models that a request may name in `model`; the first draws those that "
        "name none. `?model=` describes another."
    )
    parameters: dict[str, Any] = Field(description="JSON Schema of the body of /api/generate.")
    samplers: list[str]
    loras: list[LoraInfo]
    engine: EngineInfo
    version: str


class WorkerInfo(Schema):
    """A worker process."""

    pid: int | None
    state: WorkerState
    device: str | None
    restarts: int
    models: list[str] = Field(description="The models that it has loaded.")


class Health(Schema):
    """The API lives; its workers may not yet."""

    status: Literal["ok"] = "ok"
    workers: list[WorkerInfo]


class Ready(Schema):
    """A worker has loaded the model and run one step."""

    status: Literal["ready"] = "ready"


# Types that the documentation needs, though no route returns one of them as its model.
JOB_EVENT: TypeAdapter[Any] = TypeAdapter(JobEvent)
GALLERY_EVENT: TypeAdapter[Any] = TypeAdapter(GalleryEvent)
