"""The messages between the server and a worker, and their encoding on the socket.

A frame is two big-endian 32-bit lengths, a JSON object of the first length, and raw bytes of the
second length: a preview, which base64 in the JSON would make larger. The docstring of each message
begins with the sender.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from runtime.errors import CalotypeError

HEADER = struct.Struct(">II")
MAX_FRAME = 64 * 2**20

TimedStage = Literal["encode", "step", "preview", "decode", "save"]
"""Stages of a worker's threads whose times are reported. A step is a call of the denoiser, for all
samples in it.
"""
TIMED: tuple[TimedStage, ...] = get_args(TimedStage)


class LinkError(CalotypeError):
    """The other side is gone, or sent a bad frame or a message that this side does not take."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker: the model is loaded and warmed up."""

    backend: str
    target: str
    device: str
    precision: str
    note: str
    served: Mapping[str, Any]
    """`runtime.plan.served.Served.to_json`: the sizes, batches and LoRAs that the engines take."""
    shortfalls: Sequence[str] = field(default_factory=list)
    """Sentences, one for each part of the engines that runs slower than it was made to run."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Worker: another model is loaded."""

    model: str
    seconds: float
    """The time that this took, with the giving up of others."""
    ready: Mapping[str, Any]
    """The facts that `Ready` has of the first model, by the names of its fields."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """Worker: the models that it holds; where it may load others, and whenever that changes."""

    loaded: Sequence[str] = field(default_factory=list)
    """The last used first."""
    beside: Sequence[str] = field(default_factory=list)
    """Those that it has memory to load with none given up."""
    evicted: int = 0
    """How many were given up since the last such message."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By model, the time of its last loading; without those that were not loaded yet."""


@dataclass(frozen=True, slots=True)
class Vacant:
    """Worker: `count` more jobs may be assigned to this worker."""

    count: int


@dataclass(frozen=True, slots=True)
class Conditioned:
    """Worker: a job's prompts are encoded; counts of conditionings found in the cache and made."""

    hits: int
    misses: int
    seconds: float
    """The time that those made took, with the opening of text encoders that are put aside."""


@dataclass(frozen=True, slots=True)
class Paced:
    """Worker: the loop's times outside of the denoiser's calls, and previews that were not made,
    since the last such message; at the end of each job.
    """

    calls: int = 0
    """The calls that followed another one with no rest between the two."""
    host_seconds: float = 0.0
    """The time from the return of a call to the begin of the next, over `calls`."""
    starts: int = 0
    """The calls that ended a rest, in which no picture was there to be drawn."""
    idle_seconds: float = 0.0
    """The parts of these rests in which a job was there whose picture was not ready yet."""
    previews_dropped: int = 0
    """The previews that gave way to that of a later step, or to the end of their job."""
    lora_changes: int = 0
    """The changes of the LoRA set on the denoiser."""
    lora_seconds: float = 0.0
    """The time that these took."""
    batches: Mapping[str, int] = field(default_factory=dict)
    """Numbers of calls by the samples in them."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Worker: seconds of stages that have ended since the last such message, on any thread."""

    stages: Mapping[TimedStage, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Risk:
    """Worker: a job's pictures or prompts are about to be worked on, or, with `over`, are not for
    now. Only a job that is worked on may be the reason for the end of the process.
    """

    job_id: str
    over: bool


@dataclass(frozen=True, slots=True)
class Stepped:
    """Worker: a job has finished a step."""

    job_id: str
    step: int
    """1-based."""
    seconds: float
    """Time since the job's step before, or since its admission; other jobs' turns count too."""
    payload: bytes = b""
    """The preview, a JPEG; empty for none. Where previews fall behind, an earlier step's."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Worker: the job's picture and thumbnail are whole on disk."""

    job_id: str
    filename: str
    width: int
    height: int
    size_bytes: int
    warnings: Sequence[str] = field(default_factory=list)
    """Sentences on what the picture's file lacks, and on tiles that the picture was decoded in."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Worker: the job cannot be made."""

    job_id: str
    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Worker: the job's picture was drawn and the disk did not take it."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Canceled:
    """Worker: the job was stopped, as the server asked."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """Worker: the process was asked to stop; jobs unfinished at its exit go back to the queue."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Worker: the process is alive; the state of its device."""

    device_memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes by their use; empty for a CPU."""
    shortfalls: Sequence[str] = field(default_factory=list)
    """The shortfalls of `Ready`, as of now."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Worker: a new CUDA graph of this role is about to be launched for the first time, or, with
    `over`, was launched. The launch may kill the process, which then sends nothing more.
    """

    role: str
    over: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """Worker: the process has to exit."""

    detail: str
    lasting: bool
    """The worker could not start, and another start would fail in the same way."""
    of_graph: bool = False
    """A CUDA graph broke the device: the next worker must not capture any CUDA graph."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Server: the options of the worker; the first message on its link."""

    options: Mapping[str, Any]
    """`runtime.wire.options.WorkerOptions.to_json`."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Server: the job is leased to the worker, which is to draw it."""

    job_id: str
    request: Mapping[str, Any]
    waited: float = field(default=0.0, compare=False)
    """Seconds from the job's submission."""
    model: str = ""
    """The model that draws it; empty for the worker's first."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Server: stop this job before its next step."""

    job_id: str


Report = (
    Ready
    | Loaded
    | Shelved
    | Vacant
    | Conditioned
    | Paced
    | Timed
    | Risk
    | Stepped
    | Completed
    | Failed
    | Unsaved
    | Canceled
    | Leaving
    | Heartbeat
    | Trial
    | Broken
)
Order = Configure | Assignment | Cancel
Message = Report | Order

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        *(Loaded, Shelved),
        *(Ready, Vacant, Conditioned, Paced, Timed, Risk, Stepped, Completed, Failed, Canceled),
        *(Unsaved, Leaving, Heartbeat, Trial, Broken, Configure, Assignment, Cancel),
    )
}


def encode(message: Message) -> bytes:
    """A message as a frame."""
    content = {each.name: getattr(message, each.name) for each in fields(message)}
    payload: bytes = content.pop("payload", b"")
    body = json.dumps({"kind": type(message).__name__, **content}).encode()
    return HEADER.pack(len(body), len(payload)) + body + payload


def lengths(header: bytes) -> tuple[int, int]:
    """The numbers of bytes of JSON and of payload that follow. Raises LinkError over MAX_FRAME."""
    body, payload = HEADER.unpack(header)
    if body + payload > MAX_FRAME:
        raise LinkError(f"a frame of {body + payload} bytes, at most {MAX_FRAME} are expected")
    return body, payload


def decode(body: bytes, payload: bytes) -> Message:
    """A frame's two parts as a message. Raises LinkError."""
    try:
        content = json.loads(body)
        if payload:
            content["payload"] = payload
        return _KINDS[content.pop("kind")](**content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shown = ascii(body[:80])
        raise LinkError(f"a frame that is no message: {shown} ({error!r})") from error
