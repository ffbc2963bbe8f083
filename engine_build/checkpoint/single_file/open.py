"""Opens a source: a diffusers folder, or a single-file checkpoint beside the folder that its
configurations come from."""

import re
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

# Weights that were cut up, as transformers and diffusers name the parts.
_PART = re.compile(r"-\d{5}-of-\d{5}\.\w+$|\.safetensors\.index(\.\w+)?\.json$")


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
        if name not in self.family.held(self.header.tensors):
            return self._from_base(name, class_names)
        in_file = self.family.networks[name]
        _, class_name = self.base.declared_network(name, class_names)
        config = read_json(self.base.path / name / "config.json")
        tensors = in_file.find(self.header, config)
        return Component(
            name,
            self.base.path / name,
            class_name,
            config,
            Checkpoint((self.header.path,), tensors),
            variant=None,
            from_single_file=True,
        )

    def _from_base(self, name: str, class_names: tuple[str, ...]) -> Component:
        try:
            return self.base.network(name, class_names)
        except SourceError as error:
            raise SourceError(
                f"{self.header.path} holds no {name}, and its base cannot give it: {error}"
            ) from error

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
    usual = family.usual_base(header.tensors)
    if base is None:
        lacking = family.networks.keys() - family.held(header.tensors)
        and_more = "".join(f", {name}" for name in sorted(lacking))
        raise SourceError(
            f"{path}: {_title(family, header)} without configurations, tokenizers{and_more}; name "
            f"the diffusers folder that they come from: engine-build build {path} --name NAME "
            f"--base {usual}"
        )
    folder = open_folder(base)
    if folder.pipeline_class != family.pipeline_class:
        raise SourceError(
            f"{base}: of class {folder.pipeline_class}, but {path.name} is "
            f"{_title(family, header)}, expected {family.pipeline_class} as its base, such as "
            f"{usual}"
        )
    return SingleFile(header, family, folder)


def _title(family: SingleFileFamily, header: SingleFileHeader) -> str:
    if family.held(header.tensors) == {family.denoiser}:
        return f"the {family.denoiser} of {family.title} alone"
    return f"a single-file checkpoint of {family.title}"


def networks_in_file(path: Path) -> frozenset[str]:
    """The names of the networks that a file holds. Raises SourceError."""
    header, family = _read(path)
    return family.held(header.tensors)


def _read(path: Path) -> tuple[SingleFileHeader, SingleFileFamily]:
    refuse_pickle(str(path))
    if _PART.search(path.name):
        raise SourceError(
            f"{path}: one of several files of a network, or their index; give the diffusers folder "
            "that holds them all, or the checkpoint as one file"
        )
    if path.suffix.lower() == ".gguf":
        raise SourceError(
            f"{path}: GGUF weights are quantised, which is not read; fetch the .safetensors file "
            "in fp16, bf16 or fp32"
        )
    if path.suffix.lower() != ".safetensors":
        raise SourceError(f"{path}: no .safetensors file")
    header = SingleFileHeader(path, read_header(path), read_metadata(path))
    return header, recognise(header)
