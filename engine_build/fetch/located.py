"""Fetched files on this machine, and the facts known of them."""

from dataclasses import dataclass, field
from pathlib import Path

from engine_build.fetch.connection import Patience
from engine_build.fetch.download import CachedFile, RemoteFile, download
from runtime.package.manifest import Source


@dataclass(frozen=True, slots=True)
class Fetching:
    """The cache and the patience that files are fetched with."""

    cache: Path
    patience: Patience = field(default_factory=Patience)
    show_progress: bool = True

    def file(self, file: RemoteFile) -> CachedFile:
        """A file in the cache, downloaded if it is not there. Raises SourceError or BuildError."""
        return download(file, self.cache / "files", self.patience, show_progress=self.show_progress)


@dataclass(frozen=True, slots=True)
class Release:
    """The facts that a host states of a version of a model or a LoRA."""

    id: int
    name: str
    triggers: tuple[str, ...]
    """The trigger words."""
    base_model: str | None
    """The base model, in the host's words."""


@dataclass(frozen=True, slots=True)
class Located:
    """A file or a folder of this machine, and where it came from."""

    path: Path
    origin: Source
    release: Release | None = None
