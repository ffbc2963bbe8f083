"""The weights of a network, over all of its safetensors files, matched with its parameters."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine_build.checkpoint.headers import Layout, StoredTensor, read_header, read_metadata
from runtime.errors import SourceError

__all__ = [
    "DTYPES",
    "Checkpoint",
    "Layout",
    "StoredTensor",
    "match_parameters",
    "read_checkpoint",
    "read_header",
    "read_metadata",
]

DTYPES = ("F32", "F16", "BF16")
"""The dtypes that a graph's weights may have, as safetensors names them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of one network by name, over all of its files."""

    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]


def read_checkpoint(files: Iterable[Path]) -> Checkpoint:
    """Read the headers of a network's weight files. Raises SourceError."""
    files = tuple(files)
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        tensors.update(read_header(path))
    return Checkpoint(files, tensors)


def match_parameters(
    shapes: Mapping[str, tuple[int, ...]],
    names: Callable[[str], tuple[str, ...]],
    checkpoint: Checkpoint,
) -> dict[str, tuple[str, StoredTensor]]:
    """For each parameter of a network: its published name, and its tensor in the checkpoint.

    `names` gives the spellings that a parameter may have, the published one first. Raises
    SourceError where a tensor is missing, or has another shape or a dtype that we do not read.
    """
    matched = {}
    first = checkpoint.files[0]
    where = first if len(checkpoint.files) == 1 else first.parent
    for parameter, shape in shapes.items():
        spellings = names(parameter)
        tensor = next((checkpoint.tensors[s] for s in spellings if s in checkpoint.tensors), None)
        if tensor is None:
            raise SourceError(
                f"{where}: the weights lack {spellings[0]}, which config.json asks for"
            )
        # Attention of an old VAE is saved as 1x1 convolutions: the same numbers.
        if tensor.shape not in {shape, (*shape, 1, 1)}:
            raise SourceError(
                f"{tensor.path}: {spellings[0]} is {list(tensor.shape)}, but config.json asks for "
                f"{list(shape)}"
            )
        if tensor.dtype not in DTYPES:
            raise SourceError(
                f"{tensor.path}: {spellings[0]} is stored as {tensor.dtype}, "
                f"expected {', '.join(DTYPES)}"
            )
        matched[parameter] = spellings[0], replace(tensor, shape=shape)
    return matched
