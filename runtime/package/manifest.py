"""The model package on disk: the contract between the build stage and the runtime.

A package is a directory `engines/NAME/`. Its `manifest.json` describes every other file and states
its hash, and is itself sealed by a digest, so that a damaged package is refused by name before any
of its files is used. The manifest is written in one canonical form: a file that differs from that
form in a single byte is damaged too.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass
from tqdm import tqdm

from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package.file_record import FileRecord, file_fault, size_fault
from runtime.package.hashes import KnownHashes, forget_hashes
from runtime.package.sealed import read_sealed, seal
from runtime.package.tensors import Tensor, map_tensors, stored_bytes

FORMAT = 2
MANIFEST_NAME = "manifest.json"

Precision = Literal["fp32", "fp16", "bf16"]

DEMO = Path(__file__).parents[2] / "engines" / "demo"
"""The demo model: committed in a checkout, and part of the wheel."""

BATCH, EVALUATIONS, HEIGHT, WIDTH = "batch", "evaluations", "height", "width"
"""Axes of every family's graphs: samples, evaluations of the denoiser, and a picture's height and
width in latents."""

_LONG_BYTES = 10**9
"""The bytes that are hashed without a word."""

_STRICT = ConfigDict(extra="forbid")

logger = logging.getLogger(__name__)


@checked_dataclass(frozen=True, config=_STRICT)
class Parameter:
    """A parameter of the checkpoint, and the initializer that holds it in a role's graph."""

    initializer: str
    shape: tuple[int, ...]
    dtype: str
    """F32, F16 or BF16, in safetensors' names. Arithmetic is fp32 whatever is stored."""

    @property
    def replaceable(self) -> bool:
        """True of matrices and kernels, which engines for a GPU take new values of; an adaptable
        graph on the CPU takes every parameter's.
        """
        return len(self.shape) >= 2


@checked_dataclass(frozen=True, config=_STRICT)
class GraphCheck:
    """The error of a graph against PyTorch on the same inputs, measured by the build."""

    largest_error: float
    tolerance: float
    """The largest error allowed. Errors are relative to the largest magnitude of PyTorch's output;
    the error of 8-bit pictures is the 99.9th percentile of the difference, relative to 255."""
    outputs: Mapping[str, float]
    reduced: Mapping[str, Any] | None = None
    """The changed settings of config.json of the small networks that were checked in the place of a
    network too large to be checked whole. `random weights` holds the settings of a narrow network;
    `own weights` lists the settings of each network of single blocks in their full width, with the
    checkpoint's own weights. None: the network was checked whole."""


@checked_dataclass(frozen=True, config=_STRICT)
class AxisRecord:
    """A dynamic axis of a graph: its extents are multiples of `multiple` within these bounds; a
    `maximum` of None is no bound.
    """

    minimum: int
    maximum: int | None
    multiple: int
    usual: int | None
    """The extent of most requests; None where a request's size and batch determine the extent."""
    extents: tuple[int, ...] = ()
    """The few extents, the least first, up to which inputs are filled where each new shape is dear:
    the graph gives the same, whatever lies behind a text. Empty where that is not so, and in the
    packages of older versions."""


@checked_dataclass(frozen=True, config=_STRICT)
class InputRecord:
    """An input of a graph."""

    dtype: str
    """NumPy's name of the dtype."""
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
    """The dynamic axes of the graph's inputs, by name."""
    precision: Precision
    """The default precision of matrix products in an engine; the graph itself computes in fp32."""
    external_folder: str | None = None
    """The absolute path of the folder of weights left in place; None for weights in the package."""
    heads: int | None = None
    """The heads of the attention of the most tokens, whose scores may take most of a call's memory;
    None where the role has no such attention, and in the packages of older versions."""

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
    """The sizes (in pixels), batches and options that the graphs take."""

    min_size: int
    max_size: int
    multiple_of: int
    max_batch: int
    max_evaluations: int
    max_clip_skip: int = 0
    """The largest number of last layers of the text encoders that a request may skip, beyond the
    layers that every request skips."""


@checked_dataclass(frozen=True, config=_STRICT)
class Defaults:
    """The values of fields that a request leaves out."""

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
    """The origin of the weights, for people."""

    kind: str
    reference: str
    revision: str | None = None
    """The fetched version of the reference: a commit, or the id of a version."""
    sha256: str | None = None
    """The hash of the file that was fetched."""


@checked_dataclass(frozen=True, config=_STRICT)
class Manifest:
    """The facts of a model that are known before a graph is opened."""

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
    """Facts of this checkpoint that only its family's module in `runtime.plan.families` reads."""
    limits: Limits
    defaults: Defaults
    built_with: Mapping[str, str]
    files: Mapping[str, FileRecord]
    external_files: Mapping[str, FileRecord] = field(default_factory=dict)
    """Weights that were left in place, by absolute path."""
    vocabulary: tuple[str, ...] = ()
    """The things that the model can draw, where these are few; empty where nobody could list them,
    and in the packages of older versions."""
    format: int = FORMAT

    @property
    def described(self) -> str:
        """The description, with the vocabulary where there is one."""
        if not self.vocabulary:
            return self.description
        return f"{self.description}. It can draw: {', '.join(self.vocabulary)}."


_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package whose manifest was read."""

    path: Path
    manifest: Manifest
    digest: str = field(repr=False)
    """The identity of this very package: a hash over its manifest, which has every file's hash."""

    def file(self, name: str) -> Path:
        """The path of one of the package's files."""
        return self.path / name

    def weights_folder(self, role: str) -> Path:
        """The folder that external weights of a role's graph, and of engines compiled from the
        graph, are relative to: the package's, or the checkpoint's for weights left in place.
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
    """Read and check `manifest.json` alone. Returns the manifest and its digest.

    Raises PackageError.
    """
    try:
        return read_sealed(directory / MANIFEST_NAME, _MANIFEST, FORMAT, "build it again")
    except FileNotFoundError:
        raise PackageError(
            f"{directory}: no {MANIFEST_NAME}, so this is no model package; "
            "build one with: engine-build build SOURCE --name NAME"
        ) from None


def read_package(engines: Path, name: str) -> ModelPackage:
    """Open the package `name` by its manifest alone: no other file is looked at.

    It is `engines/name`, or the demo model that Calotype comes with where `engines` has none of
    that name. Raises PackageError; for an unknown name, the message lists the packages that there
    are.
    """
    directory = package_directory(engines, name)
    if not directory.is_dir():
        found = ", ".join(path.name for path in package_directories(engines)) or "none"
        raise PackageError(
            f"model {name!r} is not in {engines} (found: {found}); "
            f"build it with: engine-build build SOURCE --name {name} --engines {engines}"
        )
    return ModelPackage(directory, *read_manifest(directory))


def check_files(package: ModelPackage, *, anew: bool = False) -> None:
    """Check the size and hash of every file, wherever it lies; reads those whose hash is not known,
    and with `anew` all.

    Progress is shown where much is read. Raises PackageError naming the largest file that is gone
    or changed.
    """
    # An external file's name is an absolute path, which `package.file` returns unchanged.
    listed = {**package.manifest.files, **package.manifest.external_files}
    # The largest first: its thread is the last to end.
    largest_first = sorted(listed.items(), key=lambda item: -item[1].size_bytes)
    files = [(package.file(name), record) for name, record in largest_first]
    remedy = "build the package again"
    for path, record in files:
        if fault := size_fault(path, record, remedy):
            raise PackageError(fault)
    if anew:
        forget_hashes(package.path)
    with KnownHashes(package.path) as hashes:
        unread = [each for each in files if not hashes.knows(each[0], each[1].sha256)]
        with _hashing(package, unread) as advance, ThreadPoolExecutor() as pool:
            faults = pool.map(
                lambda each: file_fault(each[0], each[1], remedy, hashes, advance), unread
            )
            if fault := next(filter(None, faults), None):
                raise PackageError(fault)


def load_package(engines: Path, name: str, *, anew: bool = False) -> ModelPackage:
    """Open a package as `read_package` does and check its files, `anew` also those whose hash is
    known.

    Raises PackageError.
    """
    package = read_package(engines, name)
    check_files(package, anew=anew)
    return package


def package_directory(engines: Path, name: str) -> Path:
    """The folder of a package, which need not be there: `engines/name`, or `DEMO`."""
    directory = engines / name
    return DEMO if name == DEMO.name and not directory.exists() else directory


def package_directories(engines: Path) -> Iterator[Path]:
    """The folders of the packages under `engines`, by name; builds in progress are left out."""
    if engines.is_dir():
        for path in sorted(engines.iterdir()):
            if not path.name.startswith(".") and (path / MANIFEST_NAME).is_file():
                yield path


@contextmanager
def _hashing(
    package: ModelPackage, unread: Sequence[tuple[Path, FileRecord]]
) -> Iterator[Callable[[int], object]]:
    """Shows the progress of hashing where there is much to read: a bar on a terminal, and else a
    line.
    """
    total = sum(record.size_bytes for _, record in unread)
    if total < _LONG_BYTES:
        yield lambda _: None
        return
    name = package.manifest.name
    logger.info("%s: %.1f GB are read and hashed, this once", name, total / 1e9)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc=f"hashing {name}", disable=None)
    with bar:
        yield bar.update
