"""The build stage's view of a family, to read its single-file checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_build.checkpoint.weights import StoredTensor
from runtime.errors import SourceError

Tensors = Mapping[str, StoredTensor]

DENOISER_PREFIXES = (
    "model.diffusion_model._orig_mod.",
    "model.diffusion_model.",
    "diffusion_model.",
    "model.model.",
    "model.",
    "transformer.",
    "unet.",
    "net.",
    "module.",
    "_orig_mod.",
    "",
)
"""Beginnings of the names of a denoiser's tensors.

Stability's and ComfyUI's checkpoints have `model.diffusion_model.`, LoRA tools half of that.
ComfyUI strips `model.model.`, `net.` and `model.` too (comfy/model_detection.py,
`unet_prefix_from_state_dict`). Fine-tuners leave the name of the component, of PyTorch's wrapper
for several GPUs, or of torch.compile's. Files of published transformers have none.
"""


@dataclass(frozen=True, slots=True)
class SingleFileHeader:
    """The header of a single-file checkpoint: its tensors' places, and its metadata."""

    path: Path
    tensors: Tensors
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NetworkInFile:
    """One network of a pipeline that the file may hold."""

    prefixes: tuple[str, ...]
    """Beginnings of the tensors' names; the first that stands before a mark counts."""
    marks: tuple[str, ...]
    """Beginnings, after the prefix, by which the network is told from all else in a file."""
    rename: Callable[[Tensors, Mapping[str, Any]], dict[str, StoredTensor]]
    """Takes the tensors by their names in the file without the prefix, and the network's
    config.json; returns the tensors by the names that diffusers or transformers publish. Tensors
    that are no weights of the network may stay."""

    def is_in(self, tensors: Tensors) -> bool:
        """True where a file holds the network."""
        return self._prefix(tensors) is not None

    def find(self, header: SingleFileHeader, config: Mapping[str, Any]) -> dict[str, StoredTensor]:
        """The network's tensors by their published names; none where the file lacks them.

        Raises SourceError where a name or a shape is none that the network could have.
        """
        prefix = self._prefix(header.tensors)
        if prefix is None:
            return {}
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in header.tensors.items()
            if name.startswith(prefix)
        }
        try:
            return self.rename(own, config)
        except (IndexError, TypeError, ValueError, ZeroDivisionError) as error:
            raise SourceError(
                f"{header.path}: damaged, or its base's config.json is: the name or the shape of a "
                f"tensor after {prefix!r} is none that a checkpoint has ({error})"
            ) from error

    def _prefix(self, tensors: Tensors) -> str | None:
        for prefix in self.prefixes:
            marked = tuple(prefix + mark for mark in self.marks)
            if any(name.startswith(marked) for name in tensors):
                return prefix
        return None


@dataclass(frozen=True, slots=True)
class SingleFileFamily:
    """A kind of single-file checkpoint that can be built."""

    title: str
    pipeline_class: str
    """The pipeline class of the base folder that the file's configurations come from."""
    usual_base: Callable[[Tensors], str]
    """The published folder for a file of these tensors."""
    denoiser: str
    """The network that every file of the family holds; the others may come from the base."""
    networks: Mapping[str, NetworkInFile]
    """By the names of the pipeline's components; those not in here always come from the base."""
    scheduler: Callable[[Mapping[str, Any], SingleFileHeader], Mapping[str, Any]]
    """The scheduler's configuration: the base's, changed by the file's own metadata."""

    def held(self, tensors: Tensors) -> frozenset[str]:
        """The networks that a file of these tensors holds."""
        return frozenset(name for name, network in self.networks.items() if network.is_in(tensors))


def as_named(tensors: Tensors, _config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """A `NetworkInFile.rename` for a network under its published names."""
    return dict(tensors)


def encoder(name: str, *marks: str) -> NetworkInFile:
    """A text encoder in ComfyUI's checkpoints with all in one, under its published names."""
    return NetworkInFile((f"text_encoders.{name}.transformer.",), marks, as_named)


T5_XXL = encoder("t5xxl", "encoder.block.")
