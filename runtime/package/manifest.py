"""The model package on disk: the contract between the build stage and the runtime.

A package is a directory `engines/NAME/`. Its `manifest.json` says what every other file is, with
its hash, and is itself sealed by a digest, so that a damaged package is refused by name before
anything in it is used. The manifest is written in one canonical form: a file that differs from
that form in a single byte is damaged too.
"""

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package.sealed import read_sealed, seal
from runtime.package.tensors import Tensor, map_tensors, stored_bytes

FORMAT = 2
MANIFEST_NAME = "manifest.json"

Precision = Literal["fp32", "fp16", "bf16"]

BATCH, EVALUATIONS, HEIGHT, WIDTH = "batch", "evaluations", "height", "width"
"""Axes that mean the same in every family: samples, prompts through the denoiser, latents."""

_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_STRICT)
class FileRecord:
    """What a file of the package must be."""

    sha256: str
    size_bytes: int


@checked_dataclass(frozen=True, config=_STRICT)
class Parameter:
    """Where a parameter of the checkpoint lives in a role's graph; LoRA factors are laid on it."""

    initializer: str
    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: F32, F16, BF16. Arithmetic is fp32 whatever is stored."""

    @property
    def replaceable(self) -> bool:
        """Whether it may get other values while the model is open: matrices and kernels may."""
        return len(self.shape) >= 2


@checked_dataclass(frozen=True, config=_STRICT)
class GraphCheck:
    """How far the graph was from PyTorch on the same inputs when it was written."""

    largest_error: float
    tolerance: float
    """Both relative to the largest magnitude of PyTorch's output; of 8-bit pictures the 99.9th
    percentile counts, relative to 255."""
    outputs: Mapping[str, float]
    reduced: Mapping[str, Any] | None = None
    """Where the network is too large to be checked whole: what changed in its config.json to make
    the small ones of the same architecture that were checked in its place. `random weights` are the
    settings of a narrow one; `own weights` list those of each that is single blocks in their full
    width, with the checkpoint's own weights."""


@checked_dataclass(frozen=True, config=_STRICT)
class AxisRecord:
    """A dynamic axis of a graph: its extents are multiples of `multiple` within these bounds."""

    minimum: int
    maximum: int | None
    multiple: int
    usual: int | None
    """The extent that most requests have, where sizes and batches of a request do not say it."""


@checked_dataclass(frozen=True, config=_STRICT)
class InputRecord:
    """An input of a graph."""

    dtype: str
    """As NumPy names it."""
    shape: tuple[int | str, ...]
    """Extents, and the names of dynamic axes."""


@checked_dataclass(frozen=True, config=_STRICT)
class RoleRecord:
    """One network of the model: its graph, its weights, and how it was checked."""

    graph: str
    weights: str | None
    """The package's own file of weights; None where they were left in place."""
    check: GraphCheck
    parameters: Mapping[str, Parameter]
    inputs: Mapping[str, InputRecord]
    axes: Mapping[str, AxisRecord]
    """The dynamic axes of its inputs, by name."""
    precision: Precision
    """What an engine for a GPU computes its matrix products in, where nobody asks otherwise. The
    graph itself computes in fp32."""
    external_folder: str | None = None
    """Where the weights were left in place: the absolute path of the folder that holds them."""

    @property
    def weights_bytes(self) -> int:
        """The bytes of the graph's parameters as they are stored, wherever they lie."""
        return sum(stored_bytes(each.shape, each.dtype) for each in self.parameters.values())


@checked_dataclass(frozen=True, config=_STRICT)
class TokenizerRecord:
    """A tokenizer's file and the token ids that its prompts are framed with."""

    file: str
    begin: int | None
    """None where a prompt begins with its first word, as for T5."""
    end: int
    pad: int
    max_length: int


@checked_dataclass(frozen=True, config=_STRICT)
class LatentFormat:
    """The latent space: `[channels, height / scale_factor, width / scale_factor]`."""

    channels: int
    scale_factor: int


@checked_dataclass(frozen=True, config=_STRICT)
class NetworkPreview:
    """Previews by a small decoder, the role `preview_decoder`."""

    kind: Literal["network"] = "network"


@checked_dataclass(frozen=True, config=_STRICT)
class MatrixPreview:
    """Previews as `rgb = latents @ matrix + bias`, fitted to the VAE: one pixel per latent."""

    matrix: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]
    explained: float
    """The share of the picture's variance that the matrix explains, 0 to 1."""
    kind: Literal["matrix"] = "matrix"


@checked_dataclass(frozen=True, config=_STRICT)
class Limits:
    """What the graphs take; sizes in pixels."""

    min_size: int
    max_size: int
    multiple_of: int
    max_batch: int
    max_evaluations: int
    max_clip_skip: int = 0
    """How many of the text encoders' last layers can be left out beyond the usual ones."""


@checked_dataclass(frozen=True, config=_STRICT)
class Defaults:
    """What a request gets for the fields that it leaves out."""

    width: int
    height: int
    steps: int
    cfg_scale: float | None
    """None where the model has no guidance."""
    sampler: str
    schedule: str
    negative_prompt: str | None = None


@checked_dataclass(frozen=True, config=_STRICT)
class Source:
    """Where the weights came from, for people."""

    kind: str
    reference: str
    revision: str | None = None
    """The version that a host's reference came to: a commit, or the id of a version."""
    sha256: str | None = None
    """Of a file that was fetched."""


@checked_dataclass(frozen=True, config=_STRICT)
class Manifest:
    """All that the runtime knows about a model before it opens a graph."""

    name: str
    family: str
    description: str
    source: Source
    roles: Mapping[str, RoleRecord]
    tokenizers: Mapping[str, TokenizerRecord]
    latents: LatentFormat
    preview: NetworkPreview | MatrixPreview
    scheduler: Mapping[str, Any]
    """The checkpoint's own scheduler_config.json, word for word."""
    family_options: Mapping[str, Any]
    """What the family's own file reads: facts of this checkpoint that only it understands."""
    limits: Limits
    defaults: Defaults
    built_with: Mapping[str, str]
    files: Mapping[str, FileRecord]
    external_files: Mapping[str, FileRecord] = field(default_factory=dict)
    """Weights that were left in place, by absolute path."""
    format: int = FORMAT


_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package that was read and found whole."""

    path: Path
    manifest: Manifest
    digest: str = field(repr=False)
    """Names this very package: hashes over all of its files, the manifest included."""

    def file(self, name: str) -> Path:
        """The path of one of the package's files."""
        return self.path / name

    def weights_folder(self, role: str) -> Path:
        """The folder that the references of a role's graph, and of what is compiled of it, are
        relative to: the package's own, or the checkpoint's where weights were left in place.
        """
        return Path(self.manifest.roles[role].external_folder or self.path.resolve())

    def tensors(self, role: str) -> Mapping[str, Tensor]:
        """The initializers of a role whose weights lie in the package, mapped from their file."""
        weights = self.manifest.roles[role].weights
        assert weights is not None, f"the weights of {role} are not in the package"
        return map_tensors(self.file(weights))


def to_bytes(manifest: Manifest) -> bytes:
    """The canonical form, sealed."""
    return seal(_MANIFEST, manifest)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a package that is being built."""
    write_whole(directory / MANIFEST_NAME, to_bytes(manifest))


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """Read and check `manifest.json` alone: cheap, for listings. Returns it with its digest."""
    try:
        return read_sealed(directory / MANIFEST_NAME, _MANIFEST, FORMAT, "build it again")
    except FileNotFoundError:
        raise PackageError(
            f"{directory}: no {MANIFEST_NAME}, so this is no model package; "
            "build one with: engine-build build SOURCE --name NAME"
        ) from None


def load_package(engines: Path, name: str) -> ModelPackage:
    """Read the package `engines/name` and check every file's size and hash, wherever it lies.

    Raises PackageError naming the first file that is gone or changed.
    """
    directory = engines / name
    if not directory.is_dir():
        found = ", ".join(path.name for path in package_directories(engines)) or "none"
        raise PackageError(
            f"model {name!r} is not in {engines} (found: {found}); "
            f"build it with: engine-build build SOURCE --name {name} --engines {engines}"
        )
    manifest, digest = read_manifest(directory)
    # An external file's name is an absolute path, which stays as it is behind the directory.
    files = {**manifest.files, **manifest.external_files}
    with ThreadPoolExecutor() as pool:
        faults = pool.map(
            lambda item: file_fault(directory / item[0], item[1], "build the package again"),
            files.items(),
        )
        for fault in faults:
            if fault:
                raise PackageError(fault)
    return ModelPackage(directory, manifest, digest)


def package_directories(engines: Path) -> Iterator[Path]:
    """The packages under `engines`, by name. A build in progress has a dotted name."""
    if engines.is_dir():
        for path in sorted(engines.iterdir()):
            if not path.name.startswith(".") and (path / MANIFEST_NAME).is_file():
                yield path


def record_file(path: Path) -> FileRecord:
    """Hash a file that goes into a package."""
    with path.open("rb") as stream:
        return FileRecord(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def file_fault(path: Path, expected: FileRecord, remedy: str) -> str | None:
    """What is wrong with a file of a package, in a sentence that ends with `remedy`."""
    if not path.is_file():
        return f"{path}: gone, though its package lists it; {remedy}"
    if path.stat().st_size != expected.size_bytes:
        return f"{path}: {path.stat().st_size} bytes, expected {expected.size_bytes}; {remedy}"
    found = record_file(path).sha256
    if found != expected.sha256:
        return (
            f"{path}: changed, sha256 {found[:12]}..., expected {expected.sha256[:12]}...; {remedy}"
        )
    return None
