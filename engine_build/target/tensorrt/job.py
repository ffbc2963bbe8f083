"""The job of one child process and its reports to the parent: lines of JSON on a pipe."""

from collections.abc import Mapping
from typing import Literal

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from runtime.package.backend_name import BackendName
from runtime.package.engine_record import Binding
from runtime.package.manifest import InputRecord, Precision
from runtime.package.target import Profile


@dataclass(frozen=True)
class EngineJob:
    """One role's engine for one GPU."""

    backend: BackendName
    role: str
    graph: str
    weights_folder: str
    """The folder that the graph's references to weights are relative to."""
    parameters: tuple[str, ...]
    """The names of the graph's initializers that are parameters of the network."""
    inputs: Mapping[str, InputRecord]
    precision: Precision
    profiles: tuple[Profile, ...]
    refittable: tuple[str, ...]
    flags: tuple[str, ...]
    compute_capability: str
    timing_cache: str
    engine: str
    """The path that the engine is written to."""


@dataclass(frozen=True)
class Phase:
    """Progress in one of the compiler's phases; several may run, one inside another."""

    name: str
    step: int
    steps: int
    kind: Literal["phase"] = "phase"


@dataclass(frozen=True)
class Compiled:
    """The engine is written."""

    inputs: Mapping[str, Binding]
    outputs: Mapping[str, Binding]
    seconds: float
    peak_gb: float
    kind: Literal["compiled"] = "compiled"


@dataclass(frozen=True)
class Failed:
    """The engine cannot be compiled."""

    detail: str
    kind: Literal["failed"] = "failed"


JOB: TypeAdapter[EngineJob] = TypeAdapter(EngineJob)
REPORT: TypeAdapter[Phase | Compiled | Failed] = TypeAdapter(Phase | Compiled | Failed)
