"""The files that are read when a model's engines are opened."""

from collections.abc import Iterator
from pathlib import Path

from runtime.backends.rows import row_of
from runtime.package.manifest import ModelPackage
from runtime.package.target import Target


def opened_files(package: ModelPackage, target: Target | None) -> list[Path]:
    """The files of all engines, the denoiser's first, as they are opened; those for LoRAs are left
    out. `target` None: of the package's own graphs.
    """
    manifest = package.manifest
    roles = sorted(manifest.roles, key=lambda role: (role != "denoiser", role))
    files: dict[Path, None] = {}
    for role in roles:
        if target is None:
            files[package.file(manifest.roles[role].graph)] = None
        elif role in target.record.engines:
            files |= dict.fromkeys(_compiled(target, role))
        if target is None or row_of(target.record.identity.backend).weights_beside:
            files |= dict.fromkeys(_weights(package, role))
    return list(files)


def _compiled(target: Target, role: str) -> Iterator[Path]:
    if prelude := target.prelude(role):
        yield prelude
    yield target.engine(role)


def _weights(package: ModelPackage, role: str) -> Iterator[Path]:
    record = package.manifest.roles[role]
    if record.weights is not None:
        yield package.file(record.weights)
        return
    folder = package.weights_folder(role)
    for path in map(Path, package.manifest.external_files):
        if path.is_relative_to(folder):
            yield path
