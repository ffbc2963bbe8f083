"""The steps of a build, in order: from a source to a package that the runtime can trust."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine_build.checkpoint.single_file.open import open_source
from engine_build.checkpoint.sources import ModelSource, open_preview_decoder
from engine_build.package.export.decoders import preview_role
from engine_build.package.export.families import exporter_for
from engine_build.package.export.role import Choices, ModelExport, RoleExport
from engine_build.package.placing import Weights, in_place
from engine_build.package.preview import fit_preview
from engine_build.package.publish import staged
from engine_build.package.roles import build_role, clone_whole_files, match_weights
from engine_build.package.tokenizers import load_tokenizer
from engine_build.progress import Progress
from engine_build.quiet import quiet
from runtime.errors import BuildError, CalotypeError, SourceError, in_one_line
from runtime.package.file_record import known_file
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import (
    Defaults,
    Limits,
    Manifest,
    MatrixPreview,
    NetworkPreview,
    RoleRecord,
    Source,
    TokenizerRecord,
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
    """The parts of a package that were built."""

    roles: Mapping[str, RoleRecord]
    tokenizers: Mapping[str, TokenizerRecord]
    preview: NetworkPreview | MatrixPreview
    external_files: frozenset[Path]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The package to build, its source and its place."""

    source: Path
    name: str
    engines: Path
    description: str = ""
    vocabulary: tuple[str, ...] = ()
    """The things that the model can draw, where these are few."""
    replace: bool = False
    preview_decoder: Path | None = None
    base: Path | None = None
    """Of a single-file checkpoint: the diffusers folder that its configurations come from."""
    origin: Source | None = None
    """The origin of the source, for the manifest; None: the names of `source` and `base`."""
    in_place: bool = False
    """True to leave the weights where they are, instead of copying them into the package."""
    choices: Choices = field(default_factory=Choices)


def build_package(request: BuildRequest, *, show_progress: bool = True) -> Path:
    """Build `engines/name`, or raise and leave nothing that could be taken for a package.

    Raises SourceError where the source is not what we can read, before any work; BuildError where
    a graph cannot be made or does not match PyTorch.
    """
    with quiet():
        model, preview, weights = read_source(request)
        roles = model.roles if preview is None else (*model.roles, preview)
        placed = {name: in_place(found) for name, found in weights.items() if request.in_place}
        tokenizers = {item.name: load_tokenizer(item) for item in model.tokenizers}
        with (
            Progress(3 * len(roles) + 2, shown=show_progress) as progress,
            staged(request.engines, request.name, replace=request.replace) as folder,
        ):
            if not request.in_place:
                placed = clone_whole_files(weights, folder)
            records = {
                role.role: build_role(
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
                with KnownHashes(folder) as hashes:
                    manifest = _manifest(request, model, parts, folder, hashes)
                write_manifest(folder, manifest)
    return request.engines / request.name


def read_source(
    request: BuildRequest,
) -> tuple[ModelExport, RoleExport | None, Mapping[str, Weights]]:
    """The parts of the package, its preview decoder where there is one, and the checkpoint's tensor
    for each parameter: all that a build reads before it makes anything.

    Raises SourceError where the source is not what we can read, BuildError for sizes in pixels that
    requests could not ask for.
    """
    source = open_source(request.source, request.base)
    try:
        model = exporter_for(source).read(source, request.choices)
        preview = _preview_role(request, source, model)
        roles = model.roles if preview is None else (*model.roles, preview)
        check_defaults(model.limits, model.defaults, request.choices.resolutions)
        return model, preview, {role.role: match_weights(role) for role in roles}
    except (CalotypeError, OSError):
        raise
    except Exception as error:  # of PyTorch, diffusers and transformers: no base but this
        said = in_one_line(error)
        raise SourceError(
            f"{source.path}: a value in its configurations is of another kind or size than the "
            f"libraries take ({type(error).__name__}: {said:.200}); compare them with the "
            "published ones"
        ) from error


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
    return preview_role(open_preview_decoder(path), model)


def _manifest(
    request: BuildRequest,
    model: ModelExport,
    parts: _Parts,
    folder: Path,
    hashes: KnownHashes,
) -> Manifest:
    return Manifest(
        name=request.name,
        family=model.family,
        description=request.description,
        vocabulary=request.vocabulary,
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
        files={path.name: known_file(path, hashes) for path in sorted(folder.iterdir())},
        external_files={
            str(path): known_file(path, hashes) for path in sorted(parts.external_files)
        },
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
