"""Where fetched files go, and what is known of them when they are there."""

from dataclasses import dataclass, field
from pathlib import Path

from engine_build.fetch.connection import Patience
from engine_build.fetch.download import CachedFile, RemoteFile, download
from runtime.package.manifest import Source


@dataclass(frozen=True, slots=True)
class Fetching:
    """How files are fetched."""

    cache: Path
    patience: Patience = field(default_factory=Patience)
    show_progress: bool = True

    def file(self, file: RemoteFile) -> CachedFile:
        """One file, in the cache by what it holds. Raises SourceError or BuildError."""
        return download(file, self.cache / "files", self.patience, show_progress=self.show_progress)


@dataclass(frozen=True, slots=True)
class Release:
    """What a host says of a version of a model or a LoRA."""

    id: int
    name: str
    triggers: tuple[str, ...]
    """The words that call up what it learned."""
    base_model: str | None
    """What it was trained on, in the host's words."""


@dataclass(frozen=True, slots=True)
class Located:
    """A file or a folder of this machine, and where it came from."""

    path: Path
    origin: Source
    release: Release | None = None
