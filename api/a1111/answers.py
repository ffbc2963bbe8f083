"""Answers of AUTOMATIC1111's API, as its modules/api/models.py has them, in their order."""

from typing import Any

from pydantic import Field

from api.schemas import Schema


class Pictures(Schema):
    """The pictures of a request, and how each was drawn."""

    images: list[str] = Field(description="PNG files in base64; empty without `send_images`.")
    parameters: dict[str, Any] = Field(description="The body as it was sent.")
    info: str = Field(description="JSON: `seed`, `all_seeds`, `infotexts`, `warnings` and more.")


class State(Schema):
    """State of the request that is being drawn."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = ""
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class Progress(Schema):
    """The progress of the caller's oldest request; all 0 where it has none."""

    progress: float = Field(0.0, description="From 0 to 1.")
    eta_relative: float = Field(0.0, description="Seconds to its end.")
    state: State = State()
    current_image: str | None = Field(None, description="The newest preview, a JPEG in base64.")
    textinfo: str | None = None


class SdModel(Schema):
    """A model that is served."""

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None = None


class Sampler(Schema):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, Any]


class Scheduler(Schema):
    """A schedule."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float = -1.0
    need_inner_model: bool = False


class Lora(Schema):
    """A LoRA, by the name that stands in a prompt's `<lora:NAME:WEIGHT>`."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class SdVae(Schema):
    """A VAE that a request could name: there is none but the model's own."""

    model_name: str
    filename: str


class Upscaler(Schema):
    """An upscaler: there is none but the one of that name."""

    name: str = "None"
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float = 1.0


class UpscaleMode(Schema):
    """A mode of hires fix: there is none."""

    name: str


class Scripts(Schema):
    """Names of scripts: there is none."""

    txt2img: tuple[str, ...] = ()
    img2img: tuple[str, ...] = ()


class Memory(Schema):
    """Memory in bytes."""

    ram: dict[str, Any]
    cuda: dict[str, Any]


class Options(Schema):
    """Settings that clients read: the loaded model, and those that pictures are drawn by."""

    sd_model_checkpoint: str
    sd_checkpoint_hash: str | None
    sd_vae: str = "Automatic"
    CLIP_stop_at_last_layers: int = 1
    samples_format: str = "png"
    enable_pnginfo: bool = True
    show_progress_every_n_steps: int = 1
    randn_source: str = "CPU"


class PngInfo(Schema):
    """The recipe in a picture; empty for a picture without one."""

    info: str
    items: dict[str, str]
    parameters: dict[str, str] = Field(description="Its parts by the names in the text.")


class Nothing(Schema):
    """An empty object."""


class A1111Error(Schema):
    """An error as AUTOMATIC1111's API writes it."""

    error: str
    detail: str
    body: str = ""
    errors: str
