"""The steps of a build, in order: from a source to a package that the runtime can trust."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx_ir as ir
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from engine_build.checkpoint.single_file.open import open_source
from engine_build.checkpoint.sources import ModelSource, open_preview_decoder
from engine_build.checkpoint.weights import match_parameters
from engine_build.package.export.common import preview_decoder
from engine_build.package.export.families import exporter_for
from engine_build.package.export.role import Choices, ModelExport, RoleExport, TokenizerExport
from engine_build.package.placing import (
    PlacedWeights,
    Weights,
    check_space,
    clone,
    copied,
    in_clone,
    in_place,
    size_of,
    whole_file,
)
from engine_build.package.preview import fit_preview
from engine_build.package.publish import staged
from engine_build.package.reduced import check_role
from engine_build.package.tracing import link, parameter_shapes, trace
from engine_build.progress import Progress
from engine_build.quiet import quiet
from runtime.errors import BuildError, SourceError
from runtime.package.manifest import (
    AxisRecord,
    Defaults,
    InputRecord,
    Limits,
    Manifest,
    MatrixPreview,
    NetworkPreview,
    Parameter,
    RoleRecord,
    Source,
    TokenizerRecord,
    record_file,
    write_manifest,
)

_BUILT_WITH = (
    "calotype",
    "torch",
    "diffusers",
    "transformers",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What was built of a package."""

    roles: Mapping[str, RoleRecord]
    tokenizers: Mapping[str, TokenizerRecord]
    preview: NetworkPreview | MatrixPreview
    external_files: frozenset[Path]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is to be built, from what, and where to."""

    source: Path
    name: str
    engines: Path
    description: str = ""
    replace: bool = False
    preview_decoder: Path | None = None
    base: Path | None = None
    """Of a single-file checkpoint: the diffusers folder that its configurations come from."""
    origin: Source | None = None
    """Where the source came from; None for what its name says."""
    in_place: bool = False
    """Whether the weights stay where they are, instead of becoming the package's own."""
    choices: Choices = field(default_factory=Choices)


def build_package(request: BuildRequest, *, show_progress: bool = True) -> Path:
    """Build `engines/name`, or raise and leave nothing that could be taken for a package.

    Raises SourceError where the source is not what we can read, before any work; BuildError where
    a graph cannot be made or does not match PyTorch.
    """
    with quiet():
        source = open_source(request.source, request.base)
        model = exporter_for(source).read(source, request.choices)
        preview = _preview_role(request, source, model)
        roles = model.roles if preview is None else (*model.roles, preview)
        check_defaults(model.limits, model.defaults, request.choices.resolutions)
        weights = {role.role: _match(role) for role in roles}
        placed = {name: in_place(found) for name, found in weights.items() if request.in_place}
        tokenizers = {item.name: load_tokenizer(item) for item in model.tokenizers}
        with (
            Progress(3 * len(roles) + 2, shown=show_progress) as progress,
            staged(request.engines, request.name, replace=request.replace) as folder,
        ):
            if not request.in_place:
                placed = _clone_whole_files(weights, folder)
            records = {
                role.role: _build_role(
                    role, weights[role.role], placed.get(role.role), folder, progress
                )
                for role in roles
            }
            with progress.step("tokenizers and preview"):
                for tokenizer, record in tokenizers.values():
                    tokenizer.save(os.fspath(folder / record.file))
                shown = (
                    fit_preview(model.vae, model.scaling) if preview is None else NetworkPreview()
                )
            with progress.step("manifest: hash every file"):
                cut = {name: record for name, (_, record) in tokenizers.items()}
                external = {file for item in placed.values() for file in item.external_files}
                parts = _Parts(records, cut, shown, frozenset(external))
                write_manifest(folder, _manifest(request, model, parts, folder))
    return request.engines / request.name


def check_defaults(
    limits: Limits, defaults: Defaults, resolutions: Sequence[tuple[int, int]] = ()
) -> None:
    """Refuse sizes in pixels that requests could not ask for. Raises BuildError."""
    sizes = [("default size", (defaults.width, defaults.height))]
    sizes += [("resolution", size) for size in resolutions]
    for what, (width, height) in sizes:
        for side in (width, height):
            if not limits.min_size <= side <= limits.max_size or side % limits.multiple_of:
                raise BuildError(
                    f"{what} {width}x{height}: sides must be {limits.min_size} to "
                    f"{limits.max_size} pixels, multiples of {limits.multiple_of}; "
                    "choose --default-size or --max-size accordingly"
                )


def _preview_role(
    request: BuildRequest, source: ModelSource, model: ModelExport
) -> RoleExport | None:
    beside = source.path / "preview_decoder"
    path = request.preview_decoder or (beside if beside.is_dir() else None)
    if path is None:
        return None
    component = open_preview_decoder(path)
    largest = model.limits.max_size // model.latents.scale_factor
    return preview_decoder(component, model.latents.channels, largest)


def _match(role: RoleExport) -> Weights:
    return match_parameters(parameter_shapes(role), role.parameter_names, role.component.checkpoint)


def _clone_whole_files(weights: Mapping[str, Weights], folder: Path) -> dict[str, PlacedWeights]:
    """Clone what takes no room on the disk, and check that there is enough for all else."""
    placed = {}
    for role, found in weights.items():
        file, target = whole_file(found), folder / f"{role}.safetensors"
        if file is not None and clone(file, target):
            placed[role] = in_clone(found, target)
    check_space(
        folder, sum(size_of(found) for role, found in weights.items() if role not in placed)
    )
    return placed


def _build_role(
    role: RoleExport,
    weights: Weights,
    placed: PlacedWeights | None,
    folder: Path,
    progress: Progress,
) -> RoleRecord:
    """Write `ROLE.onnx`, and `ROLE.safetensors` where the weights have no place yet; check them."""
    graph = folder / f"{role.role}.onnx"
    with progress.step(f"{role.role}: trace"):
        traced = trace(role)
    with progress.step(f"{role.role}: place weights"):
        if placed is None:
            read = {parameter: weights[parameter] for parameter in traced.parameters}
            with progress.bytes(size_of(read)) as advance:
                placed = copied(read, folder / f"{role.role}.safetensors", advance)
        ir.save(link(traced, placed.weights, placed.folder), graph)
    with progress.step(f"{role.role}: check against PyTorch"):
        check = check_role(role, graph, placed)
    tensors = dict(placed.weights[parameter] for parameter in traced.parameters)
    return RoleRecord(
        graph=graph.name,
        weights=placed.own,
        check=check,
        parameters={
            name: Parameter(initializer=name, shape=tensor.shape, dtype=tensor.dtype)
            for name, tensor in tensors.items()
        },
        inputs=_input_records(role),
        axes={
            axis.name: AxisRecord(axis.minimum, axis.maximum, axis.multiple, axis.usual)
            for item in role.inputs
            for axis in item.axes.values()
        },
        precision=role.precision,
        external_folder=None if placed.external_folder is None else str(placed.external_folder),
    )


def _input_records(role: RoleExport) -> dict[str, InputRecord]:
    drawn = role.draw_inputs(role.traced_at, seed=0)
    records = {}
    for item in role.inputs:
        values = drawn[item.name]
        shape = [
            item.axes[at].name if at in item.axes else extent
            for at, extent in enumerate(values.shape)
        ]
        records[item.name] = InputRecord(str(values.numpy().dtype), tuple(shape))
    return records


def load_tokenizer(tokenizer: TokenizerExport) -> tuple[Tokenizer, TokenizerRecord]:
    """A tokenizer of the source and the ids that frame a prompt. Raises SourceError."""
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer.path, local_files_only=True)
    except Exception as error:  # of transformers, tokenizers and json: no base but this
        raise SourceError(f"{tokenizer.path}: the tokenizer cannot be read: {error}") from error
    ids = {"eos_token": loaded.eos_token_id, "pad_token": loaded.pad_token_id}
    if tokenizer.begins:
        ids["bos_token"] = loaded.bos_token_id
    missing = [name for name, value in ids.items() if value is None]
    if missing:
        raise SourceError(f"{tokenizer.path}: the tokenizer has no {' and no '.join(missing)}")
    record = TokenizerRecord(
        file=f"{tokenizer.name}.json",
        begin=ids.get("bos_token"),
        end=ids["eos_token"],
        pad=ids["pad_token"],
        max_length=tokenizer.max_length,
    )
    return loaded.backend_tokenizer, record


def _manifest(request: BuildRequest, model: ModelExport, parts: _Parts, folder: Path) -> Manifest:
    return Manifest(
        name=request.name,
        family=model.family,
        description=request.description,
        # Names alone: paths differ from machine to machine.
        source=request.origin or _source_record(request),
        roles=parts.roles,
        tokenizers=parts.tokenizers,
        latents=model.latents,
        preview=parts.preview,
        scheduler=model.scheduler,
        family_options=model.family_options,
        limits=model.limits,
        defaults=model.defaults,
        built_with={name: _version(name) for name in _BUILT_WITH},
        files={path.name: record_file(path) for path in sorted(folder.iterdir())},
        external_files={str(path): record_file(path) for path in sorted(parts.external_files)},
    )


def _source_record(request: BuildRequest) -> Source:
    name = request.source.resolve().name
    if request.base is None:
        return Source(kind="diffusers", reference=name)
    return Source(kind="single file", reference=f"{name}, with {request.base.resolve().name}")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
