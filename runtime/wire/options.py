"""The options of a worker process: made once from the settings, sent to it over its link."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from runtime.backends.placing import TextWish
from runtime.backends.wishes import BackendWish, CpuPrecision
from runtime.logs import LogOptions
from runtime.wire.tile_wish import TileWish

STALL_SECONDS = 120.0
LOAD_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """How pictures are drawn. All sizes are in bytes."""

    backend: BackendWish = "auto"
    max_batch: int | None = None
    """The most samples in one call of the step graph; None: as many as the engines take."""
    lora_bytes: int = 512 * 2**20
    """Memory for the effective weights of recent LoRA sets."""
    conditioning_bytes: int = 128 * 2**20
    """Memory for the conditionings of recent prompts."""
    captures: bool = True
    """True to capture work on a GPU as CUDA graphs."""
    text_encoders: TextWish = "auto"
    """The place of the text encoders; `auto` decides by the room that the device has."""
    cpu_precision: CpuPrecision = "fp32"
    """The precision of the denoiser's matrix products on the CPU."""
    memory_bytes: int | None = None
    """The most memory that calls of the networks take together, beside the weights; None: by what
    is available at the start."""
    vae_tile: TileWish = "auto"
    """The tiles that the VAE decodes; `auto` decides by the memory that a picture's size takes."""


@dataclass(frozen=True, slots=True)
class Place:
    """The part of a machine that a worker has among the workers of its server."""

    number: int = 0
    """From 0."""
    of: int = 1
    """The number of workers. Those that draw on the CPU share its cores and the memory."""
    gpu: str = ""
    """The GPU as `CUDA_VISIBLE_DEVICES` names it; empty: as that variable has it for the server."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The models that a worker serves, the folders that it uses, and how it draws."""

    engines: Path
    """The folder of model packages."""
    model: str
    """The first model, which the worker loads at its start."""
    data: Path
    """The folder of jobs and pictures."""
    lease_seconds: float
    """Seconds of silence after which the server considers a worker lost."""
    draw: DrawOptions = field(default_factory=DrawOptions)
    stall_seconds: float = STALL_SECONDS
    """The least time after which a stage of the worker that does not end is taken for a hang."""
    load_seconds: float = LOAD_SECONDS
    """The same for the loading of a model, and for a stage of a kind that was not seen before."""
    logs: LogOptions = field(default_factory=LogOptions)
    place: Place = field(default_factory=Place)
    others: tuple[str, ...] = ()
    """The other models, which the worker loads when it has a job for them."""
    model_bytes: int | None = None
    """The most memory that models take together; None: by what is available at the start."""

    def drawn_by(self, backend: BackendWish) -> "WorkerOptions":
        """The same options with another backend."""
        return replace(self, draw=replace(self.draw, backend=backend))

    def to_json(self) -> dict[str, Any]:
        """The options for another process."""
        content: dict[str, Any] = _OPTIONS.dump_python(self, mode="json")
        return content

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "WorkerOptions":
        """The options from the output of `to_json`. Raises pydantic's ValidationError."""
        return _OPTIONS.validate_python(content)


_OPTIONS = TypeAdapter(WorkerOptions)
