"""Opens a source: a diffusers folder, or a single-file checkpoint beside the folder that its
configurations come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_build.checkpoint.pickles import refuse_pickle
from engine_build.checkpoint.single_file.family import SingleFileFamily, SingleFileHeader
from engine_build.checkpoint.single_file.recognise import recognise
from engine_build.checkpoint.sources import (
    Component,
    DiffusersFolder,
    ModelSource,
    TokenizerFolder,
    open_folder,
    read_json,
)
from engine_build.checkpoint.weights import Checkpoint, read_header, read_metadata
from runtime.errors import SourceError


@dataclass(frozen=True, slots=True)
class SingleFile:
    """A single-file checkpoint: a ModelSource whose configurations come from a base folder."""

    header: SingleFileHeader
    family: SingleFileFamily
    base: DiffusersFolder

    @property
    def path(self) -> Path:
        """The base's folder."""
        return self.base.path

    @property
    def pipeline_class(self) -> str:
        """The pipeline's class in diffusers."""
        return self.base.pipeline_class

    @property
    def index(self) -> Mapping[str, Any]:
        """The base's model_index.json."""
        return self.base.index

    def network(self, name: str, class_names: tuple[str, ...]) -> Component:
        """Open one network: the file's, or the base's. Raises SourceError."""
        in_file = self.family.networks.get(name)
        if in_file is None:
            return self.base.network(name, class_names)
        _, class_name = self.base.declared_network(name, class_names)
        config = read_json(self.base.path / name / "config.json")
        tensors = in_file.find(self.header, config)
        if not tensors:
            raise SourceError(
                f"{self.header.path}: holds no {name}, expected tensors whose names begin with "
                f"{in_file.prefixes[0]}"
            )
        return Component(
            name,
            self.base.path / name,
            class_name,
            config,
            Checkpoint((self.header.path,), tensors),
            variant=None,
            from_single_file=True,
        )

    def tokenizer(self, name: str) -> TokenizerFolder:
        """The base's tokenizer. Raises SourceError."""
        return self.base.tokenizer(name)

    def scheduler(self) -> Mapping[str, Any]:
        """The base's scheduler, changed by the file's own metadata. Raises SourceError."""
        return self.family.scheduler(self.base.scheduler(), self.header)


def open_source(path: Path, base: Path | None = None) -> ModelSource:
    """Open a folder, or a file with its base. Raises SourceError in one line."""
    if path.is_file():
        return open_single_file(path, base)
    if base is not None:
        raise SourceError(
            f"{path}: no single file, so it has no base; leave --base {base} out, or name a "
            ".safetensors file"
        )
    return open_folder(path)


def open_single_file(path: Path, base: Path | None) -> SingleFile:
    """Open a single-file checkpoint. Raises SourceError that names what the file is instead."""
    header, family = _read(path)
    if base is None:
        raise SourceError(
            f"{path}: a single-file checkpoint of {family.title} holds no configurations and no "
            f"tokenizers; name the diffusers folder that they come from: --base {family.usual_base}"
        )
    folder = open_folder(base)
    if folder.pipeline_class != family.pipeline_class:
        raise SourceError(
            f"{base}: of class {folder.pipeline_class}, but {path.name} is a checkpoint of "
            f"{family.title}, expected {family.pipeline_class} as its base, such as "
            f"{family.usual_base}"
        )
    return SingleFile(header, family, folder)


def networks_in_file(path: Path) -> frozenset[str]:
    """The names of the networks that single files of a file's family hold. Raises SourceError."""
    _, family = _read(path)
    return frozenset(family.networks)


def _read(path: Path) -> tuple[SingleFileHeader, SingleFileFamily]:
    refuse_pickle(str(path))
    if path.suffix.lower() == ".gguf":
        raise SourceError(
            f"{path}: GGUF weights are quantised, which is not read; fetch the .safetensors file "
            "in fp16, bf16 or fp32"
        )
    if path.suffix.lower() != ".safetensors":
        raise SourceError(f"{path}: no .safetensors file")
    header = SingleFileHeader(path, read_header(path), read_metadata(path))
    return header, recognise(header)
