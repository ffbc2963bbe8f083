"""The settings of a server: one class for its flags, its environment and its defaults.

A flag of `calotype serve` wins over the environment, which wins over the default. Every value is
checked here, before anything is opened, and `calotype config` prints the origin of each.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.access import Access, is_loopback, read_hosts, read_origins
from api.bounds import CallerBounds
from api.dialects import Dialects
from api.gpu_wish import GpuWish, read_gpus
from runtime.backends.placing import TEXT_WISHES, TextWish
from runtime.backends.wishes import WISHES, BackendWish, CpuPrecision
from runtime.errors import CalotypeError
from runtime.files import CACHE
from runtime.jobs.bounds import Retention
from runtime.logs import FORMATS, LEVELS, LogFormat, LogLevel, LogOptions
from runtime.wire.options import LOAD_SECONDS, STALL_SECONDS, DrawOptions, WorkerOptions
from runtime.wire.tile_wish import read_tile_wish

ENV_PREFIX = "CALOTYPE_"

MEGABYTE = 2**20

_DRAWN = DrawOptions()
_LOGGED = LogOptions()

Name = Annotated[str, Field(min_length=1)]


def read_models(text: str) -> tuple[str, ...]:
    """The names of models in a setting, separated by commas. Raises ValueError."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(f"{text!r} names no model, or has a comma too many")
    if len(set(names)) < len(names):
        raise ValueError(f"{text!r} names a model twice")
    return names


def _checked(read: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


ModelList = Annotated[str, _checked(read_models)]
HostList = Annotated[str, _checked(read_hosts)] | None
OriginList = Annotated[str, _checked(read_origins)] | None
Cluster = Annotated[str, Field(pattern=r"^nats://[^\s,]+(,nats://[^\s,]+)*$")] | None
StreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Gpus = Annotated[str, _checked(read_gpus)] | None
Tile = Annotated[str, _checked(read_tile_wish)]


class SettingsError(CalotypeError):
    """A setting that cannot be used, named as the caller gave it: by its flag or its variable."""


class Settings(BaseSettings):
    """The settings of a server; the descriptions are the help of its flags."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_parse_none_str="",
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    model: ModelList = Field(
        "demo",
        description="the package's name; several, separated by commas, are served by one server, "
        "and the first draws the requests that name none",
    )
    engines: Path = Field(
        Path("engines"),
        description="the directory of model packages; demo, where it has none, is Calotype's own",
    )
    data: Path = Field(Path("data"), description="where jobs and pictures are kept")
    broker: Cluster = Field(
        None,
        description="a cluster that keeps the jobs in the place of the data folder, such as "
        "nats://one:4222,nats://two:4222; pictures are in the data folder still, which all servers "
        "and workers share",
    )
    broker_stream: StreamName = Field(
        "calotype", description="the cluster's stream of jobs; another one keeps others"
    )
    broker_replicas: int = Field(
        1,
        ge=1,
        le=5,
        description="on how many servers of the cluster the stream is kept: 3 outlive the loss of "
        "one",
    )
    backend: BackendWish = Field(
        _DRAWN.backend,
        description=f"what draws: {', '.join(WISHES)}; auto takes the best that can run",
    )
    cpu_precision: CpuPrecision = Field(
        _DRAWN.cpu_precision,
        description="the precision of the denoiser's steps on the CPU: fp32, or bf16, which needs "
        "the openvino extra and is held to fp32 before it draws",
    )
    gpus: Gpus = Field(
        None,
        description="the GPUs to draw on, a worker on each: all, or numbers separated by commas, "
        "such as 0,2, in CUDA's order (default: the first alone)",
    )
    workers: int = Field(
        1,
        ge=0,
        description="how many workers share the cores and the memory of a machine that draws on "
        "its CPU; 0, with --broker: the cluster's workers draw",
    )
    host: Name = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 picks a free one")
    allowed_hosts: HostList = Field(
        None,
        description="names by which the server may be asked beside this machine's own (Host), "
        "separated by commas; *.example.org for those below a name, * for any. Without them, a "
        "server on loopback answers to this machine's names, and any other to every name",
    )
    allowed_origins: OriginList = Field(
        None,
        description="other sites whose pages may use the server (CORS), such as "
        "https://app.example.org, separated by commas; * for any",
    )
    trust_forwarded_host: bool = Field(
        False,
        description="believe X-Forwarded-Host: only behind a reverse proxy that sets it",
    )
    trust_forwarded_for: bool = Field(
        False,
        description="take the last address of X-Forwarded-For for the caller's, where no key names "
        "it: only behind a reverse proxy that sets it",
    )
    pictures_per_minute: int | None = Field(
        None,
        ge=1,
        description="how many pictures a caller may ask for in a minute; a key's own number "
        "(calotype keys create --per-minute) goes before it (default: no bound)",
    )
    streams_per_caller: int = Field(
        256, ge=1, description="how many event streams a caller may have open"
    )
    max_connections: int | None = Field(
        None,
        ge=1,
        description="the most connections at once (default: what this process's descriptors allow)",
    )
    request_seconds: float = Field(
        30.0, gt=0, description="how long a request may take to come in whole, in seconds"
    )
    keys: bool = Field(
        False, description="take nobody without an API key, on loopback too: calotype keys create"
    )
    no_keys: bool = Field(
        False,
        description="take everybody, on an address that other machines reach, too: whoever reaches "
        "it may draw, look at every picture and delete it",
    )
    a1111_api: bool = Field(
        True,
        description="AUTOMATIC1111's API at /sdapi/v1 (txt2img, progress, lists), for clients that "
        "know it; false takes it away",
    )
    compile: bool = Field(
        False,
        description="compile the target that is missing, of several models the first one's; "
        "meanwhile what auto takes serves",
    )
    verify_files: bool = Field(
        False, description="read and hash every file anew, also those whose hash is known"
    )
    max_batch: int | None = Field(
        None, ge=1, description="the most pictures drawn together; by default what the engines take"
    )
    no_cuda_graphs: bool = Field(
        False, description="launch every kernel by itself on a GPU, and capture no CUDA graphs"
    )
    lora_memory_mb: int = Field(
        _DRAWN.lora_bytes // MEGABYTE,
        ge=0,
        description="the memory for weights of recent LoRA sets, in MB",
    )
    prompt_memory_mb: int = Field(
        _DRAWN.conditioning_bytes // MEGABYTE,
        ge=0,
        description="the memory for conditionings of recent prompts, in MB",
    )
    draw_memory_mb: int | None = Field(
        None,
        ge=64,
        description="the most memory that drawing takes beside the model, in MB "
        "(default: four fifths of what is available at the start)",
    )
    model_memory_mb: int | None = Field(
        None,
        ge=1,
        description="the most memory that several models take together, with the drawing of usual "
        "pictures, in MB: with less free than another takes, the least recently used goes "
        "(default: what is free beside the first; on a CPU four fifths of it)",
    )
    text_encoders: TextWish = Field(
        _DRAWN.text_encoders,
        description=f"where text encoders are: {', '.join(TEXT_WISHES)}. keep: open beside the "
        "rest; aside: opened for each new prompt, which waits for that, and closed again; cpu: on "
        "the CPU in fp32, which needs no room on the GPU, and each new prompt waits for a slower "
        "run; auto: keep where the GPU has room for all, else cpu. Prompts that are still "
        "remembered (--prompt-memory-mb) wait for nothing",
    )
    vae_tile: Tile = Field(
        str(_DRAWN.vae_tile),
        description="how finished pictures are decoded: auto, off, or a number of pixels. auto: "
        "whole where memory allows, else in tiles that fade into one another, which changes a "
        "picture by a level or two of 255 and is told with it; off: whole; a number: larger "
        "pictures in tiles of so many pixels a side",
    )
    disk_reserve_mb: int = Field(
        128,
        ge=0,
        description="what is kept free on the disk of the data folder, in MB: with less, jobs wait "
        "and no other is taken",
    )
    keep_jobs_days: float | None = Field(
        30.0, gt=0, description="how long ended jobs without a picture stay, in days; empty: always"
    )
    keep_jobs: int | None = Field(
        None,
        ge=0,
        description="how many ended jobs without a picture stay: those that ended first are "
        "deleted (default: no bound)",
    )
    keep_pictures_days: float | None = Field(
        None, gt=0, description="how long pictures stay, in days (default: always)"
    )
    keep_pictures: int | None = Field(
        None,
        ge=1,
        description="how many pictures stay: the oldest are deleted (default: no bound)",
    )
    keep_pictures_mb: int | None = Field(
        None,
        ge=1,
        description="what all pictures may take together, in MB: the oldest are deleted "
        "(default: no bound)",
    )
    queue_limit: int = Field(1000, ge=1, description="how many jobs may wait")
    lease_seconds: float = Field(
        30.0, gt=0, description="how long a silent worker keeps its jobs, in seconds"
    )
    stall_seconds: float = Field(
        STALL_SECONDS,
        gt=0,
        description="how long a step, a decoding or another stage of a job may take before the "
        "worker is replaced, in seconds; stages that are known to take longer have ten times what "
        "they took",
    )
    load_seconds: float = Field(
        LOAD_SECONDS,
        gt=0,
        description="the same for the loading of the model, and for stages that were not seen "
        "before, in seconds",
    )
    max_attempts: int = Field(3, ge=1, description="how often a job is tried before it is failed")
    page: bool = Field(True, description="serve a page to draw by at /")
    openai_api: bool = Field(
        True, description="answer OpenAI's Images API at /v1, which its clients call"
    )
    cancel_on_disconnect: bool = Field(
        False,
        description="cancel the jobs of a caller of OpenAI's API that hangs up before its answer",
    )
    log_format: LogFormat = Field(
        _LOGGED.format,
        description=f"the form of log lines: {', '.join(FORMATS)}. console: for people; json: an "
        "object a line; auto: console on a terminal and json elsewhere",
    )
    log_level: LogLevel = Field(
        _LOGGED.level, description=f"the least level of log lines: {', '.join(LEVELS)}"
    )
    access_log: bool = Field(False, description="log a line for every request")

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that are served, the default first."""
        return read_models(self.model)

    @property
    def gpu_wish(self) -> GpuWish | None:
        """The GPUs that were asked for; None for none."""
        return read_gpus(self.gpus) if self.gpus else None

    @property
    def access(self) -> Access:
        """Who may use the server."""
        return Access(
            hosts=read_hosts(self.allowed_hosts or ""),
            origins=read_origins(self.allowed_origins or ""),
            address=self.host,
            forwarded=self.trust_forwarded_host,
        )

    @property
    def callers(self) -> CallerBounds:
        """Bounds of one caller."""
        return CallerBounds(
            self.pictures_per_minute, self.streams_per_caller, self.trust_forwarded_for
        )

    @property
    def dialects(self) -> Dialects:
        """The APIs of other servers that are spoken."""
        return Dialects(self.openai_api, self.a1111_api, self.cancel_on_disconnect)

    @property
    def takes_keys(self) -> bool:
        """True where nobody is served without an API key."""
        return not self.no_keys and (self.keys or not is_loopback(self.host))

    @property
    def retention(self) -> Retention:
        """How long jobs and pictures stay."""
        most = self.keep_pictures_mb
        return Retention(
            job_days=self.keep_jobs_days,
            job_count=self.keep_jobs,
            picture_days=self.keep_pictures_days,
            picture_count=self.keep_pictures,
            picture_bytes=None if most is None else most * MEGABYTE,
        )

    @property
    def draw(self) -> DrawOptions:
        """How pictures are drawn."""
        return DrawOptions(
            backend=self.backend,
            cpu_precision=self.cpu_precision,
            max_batch=self.max_batch,
            lora_bytes=self.lora_memory_mb * MEGABYTE,
            conditioning_bytes=self.prompt_memory_mb * MEGABYTE,
            memory_bytes=self.draw_memory_mb and self.draw_memory_mb * MEGABYTE,
            captures=not self.no_cuda_graphs,
            text_encoders=self.text_encoders,
            vae_tile=read_tile_wish(self.vae_tile),
        )

    @property
    def logs(self) -> LogOptions:
        """How both processes log."""
        return LogOptions(self.log_format, self.log_level)

    @property
    def worker(self) -> WorkerOptions:
        """The worker's share of the settings."""
        return WorkerOptions(
            self.engines,
            self.models[0],
            self.data,
            self.lease_seconds,
            self.draw,
            self.stall_seconds,
            self.load_seconds,
            self.logs,
            others=self.models[1:],
            model_bytes=self.model_memory_mb and self.model_memory_mb * MEGABYTE,
        )


def flag(name: str) -> str:
    """A setting's flag; of what is on by default, the flag that turns it off."""
    on = Settings.model_fields[name].default is True
    return ("--no-" if on else "--") + name.replace("_", "-")


def variable(name: str) -> str:
    """A setting's environment variable."""
    return ENV_PREFIX + name.upper()


def read_settings(flags: Mapping[str, str]) -> Settings:
    """The settings from flags, the environment and the defaults. Raises SettingsError."""
    _refuse_unknown_variables()
    # Flags and variables are text; pydantic converts them to their field's type.
    values: dict[str, Any] = dict(flags)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, flags)) from error


def origin(name: str, flags: Mapping[str, str]) -> str:
    """The origin of a setting's value: its flag, its variable, or `default`."""
    if name in flags:
        return flag(name)
    return variable(name) if variable(name) in _variables() else "default"


def _variables() -> list[str]:
    return [name.upper() for name in os.environ if name.upper().startswith(ENV_PREFIX)]


def _refuse_unknown_variables() -> None:
    known = [variable(name) for name in Settings.model_fields]
    unknown = sorted(set(_variables()) - {*known, CACHE})
    if unknown:
        raise SettingsError(f"{unknown[0]}: unknown setting; known are {', '.join(known)}")


def _explain(error: ValidationError, flags: Mapping[str, str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    value = "" if first["input"] is None else first["input"]
    return f"{origin(name, flags)}={value}: {first['msg'].lower()}"
