"""The build stage's view of a family, to read its single-file checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_build.checkpoint.weights import StoredTensor

Tensors = Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class SingleFileHeader:
    """The header of a single-file checkpoint: its tensors' places, and its metadata."""

    path: Path
    tensors: Tensors
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NetworkInFile:
    """One network of a pipeline that the file holds."""

    prefixes: tuple[str, ...]
    """Beginnings of the tensors' names; the first that occurs in the file counts."""
    rename: Callable[[Tensors, Mapping[str, Any]], dict[str, StoredTensor]]
    """Takes the tensors by their names in the file without the prefix, and the network's
    config.json; returns the tensors by the names that diffusers or transformers publish. Tensors
    that are no weights of the network may stay."""

    def find(self, header: SingleFileHeader, config: Mapping[str, Any]) -> dict[str, StoredTensor]:
        """The network's tensors by their published names; none where the file lacks them."""
        for prefix in self.prefixes:
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in header.tensors.items()
                if name.startswith(prefix)
            }
            if own:
                return self.rename(own, config)
        return {}


@dataclass(frozen=True, slots=True)
class SingleFileFamily:
    """A kind of single-file checkpoint that can be built."""

    title: str
    pipeline_class: str
    """The pipeline class of the base folder that the file's configurations come from."""
    usual_base: str
    networks: Mapping[str, NetworkInFile]
    """By the names of the pipeline's components; those not in here come from the base."""
    scheduler: Callable[[Mapping[str, Any], SingleFileHeader], Mapping[str, Any]]
    """The scheduler's configuration: the base's, changed by the file's own metadata."""
