"""The record of an engine in a target: the engine's files, inputs and outputs, and findings of its
compilation, its check and its timing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.package.file_record import FileRecord, file_fault
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import Precision

Variant = Literal["matrices", "weights"]
"""A form of an engine's graph in which initializers are inputs as well: `matrices` alone, or all
replaceable `weights`, which adds the kernels of convolutions; these then run in a slower form."""


def variant_for(shapes: Iterable[Sequence[int]]) -> Variant:
    """The smallest variant in which weights of these shapes are inputs: a shape of more than two
    axes is that of a convolution's kernel.
    """
    return "weights" if any(len(shape) > 2 for shape in shapes) else "matrices"


_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_STRICT)
class Binding:
    """An input or output of an engine."""

    dtype: str
    """NumPy's name of the dtype."""
    shape: tuple[int, ...]
    """Extents; -1 for a dynamic axis."""


@checked_dataclass(frozen=True, config=_STRICT)
class EngineCheck:
    """The error of an engine against ONNX Runtime on the same inputs, on the engine's device."""

    largest_error: float
    tolerance: float
    """Relative to the expected output, as every error: see `engine_build.package.tolerances`."""
    outputs: Mapping[str, float]
    refit_error: float | None = None
    """The error of a refittable engine against the same engine compiled with fixed weights."""

    @property
    def passed(self) -> bool:
        """True where the engine may be served."""
        return max(self.largest_error, self.refit_error or 0.0) <= self.tolerance


@checked_dataclass(frozen=True, config=_STRICT)
class StepTime:
    """The median time of a call, measured on the device."""

    axes: Mapping[str, PositiveInt]
    milliseconds: Annotated[float, Field(gt=0, le=1e12)]


@checked_dataclass(frozen=True, config=_STRICT)
class VariantRecord:
    """A variant of an engine's graph, which runs while LoRAs act."""

    file: str
    content: FileRecord


@checked_dataclass(frozen=True, config=_STRICT)
class Narrowing:
    """The precision that an engine got by its activations while real pictures were made."""

    precision: Precision
    """fp32 where fp16 cannot hold the activations."""
    exponent: int
    """The stream of residuals is multiplied by `2**-exponent`."""
    in_stream: float | None
    """The largest magnitude in the stream, before the multiplication; None for an infinity or NaN,
    which no sealed file holds."""
    elsewhere: float | None
    """The largest magnitude outside of the stream; None for an infinity or NaN."""


@checked_dataclass(frozen=True, config=_STRICT)
class PreludeRecord:
    """The part of an engine's graph that depends on the conditioning alone, a graph of its own.

    Its outputs are inputs of the engine's graph, by their names.
    """

    file: str
    content: FileRecord
    variants: Mapping[Variant, VariantRecord] = field(default_factory=dict)
    """A variant for each of the engine's, which runs with that one."""

    @property
    def files(self) -> dict[str, FileRecord]:
        """The record of every file of the prelude, by the file's name."""
        return _files(self.file, self.content, self.variants)


@checked_dataclass(frozen=True, config=_STRICT)
class EngineRecord:
    """One role's engine."""

    file: str
    content: FileRecord
    inputs: Mapping[str, Binding]
    outputs: Mapping[str, Binding]
    build_seconds: float
    build_peak_gb: float
    """The largest resident memory of the process that compiled it."""
    check: EngineCheck | None = None
    """None until the engine ran on a device."""
    step_times: tuple[StepTime, ...] = ()
    fused: Mapping[str, int] = field(default_factory=dict)
    """The number of operators that the compiler fused others into, by the operator's name."""
    unfused: Mapping[str, int] = field(default_factory=dict)
    """The number of places that no fusion of the compiler's fitted, by what they are."""
    uncaptured: tuple[str, ...] = ()
    """The reasons, by node, why no CUDA graph can hold the engine; empty where none is known."""
    variants: Mapping[Variant, VariantRecord] = field(default_factory=dict)
    """For ONNX Runtime's CUDA provider alone, which takes the replaced weights as inputs."""
    prelude: PreludeRecord | None = None
    """For ONNX Runtime's CUDA provider alone; None where nothing of the graph was split off."""
    narrowing: Narrowing | None = None
    """None where the engine's precision is that of its identity, whatever its activations are."""

    def precision(self, wished: Precision) -> Precision:
        """The precision that the engine computes in; `wished` is that of the engine's identity."""
        return wished if self.narrowing is None else self.narrowing.precision

    @property
    def files(self) -> dict[str, FileRecord]:
        """The record of every file of the engine, by the file's name."""
        beside = {} if self.prelude is None else self.prelude.files
        return {**_files(self.file, self.content, self.variants), **beside}

    @property
    def graph_bytes(self) -> int:
        """The size of the files that are open while no LoRAs act."""
        beside = 0 if self.prelude is None else self.prelude.content.size_bytes
        return self.content.size_bytes + beside


def _files(
    file: str, content: FileRecord, variants: Mapping[Variant, VariantRecord]
) -> dict[str, FileRecord]:
    return {file: content, **{each.file: each.content for each in variants.values()}}


def files_fault(folder: Path, engine: EngineRecord, remedy: str, hashes: KnownHashes) -> str | None:
    """The fault of an engine's first damaged file, as a sentence that ends with `remedy`; None when
    every file is whole.
    """
    faults = (
        file_fault(folder / name, what, remedy, hashes) for name, what in engine.files.items()
    )
    return next(filter(None, faults), None)
