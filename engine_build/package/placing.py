"""Places for the weights of a package: a copy of its own, a clone of the source's file, or the
source itself."""

import fcntl
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine_build.checkpoint.copies import copy_tensors
from engine_build.checkpoint.weights import StoredTensor, read_header
from runtime.errors import BuildError

Weights = Mapping[str, tuple[str, StoredTensor]]
"""For each parameter of a network: its published name, and its tensor."""

# From linux/fs.h: the file shares the other one's blocks until one of them is written to.
_FICLONE = 0x40049409


@dataclass(frozen=True, slots=True)
class PlacedWeights:
    """A role's weights as its graph refers to them."""

    weights: Weights
    folder: Path
    """The folder that the graph's references are relative to."""
    own: str | None = None
    """The package's own file; None where the weights were left in place."""

    @property
    def external_folder(self) -> Path | None:
        """The folder outside the package that holds the weights."""
        return self.folder if self.own is None else None

    @property
    def external_files(self) -> set[Path]:
        """The files outside the package that the graph refers to."""
        if self.own is not None:
            return set()
        return {tensor.path for _, tensor in self.weights.values()}


def size_of(weights: Weights) -> int:
    """The bytes of these weights, a shared tensor counted once."""
    return sum(tensor.size_bytes for tensor in dict(weights.values()).values())


def copied(weights: Weights, target: Path, advance: Callable[[int], object]) -> PlacedWeights:
    """Write the tensors into a file of the package."""
    tensors = copy_tensors(dict(weights.values()), target, advance)
    here = {parameter: (name, tensors[name]) for parameter, (name, _) in weights.items()}
    return PlacedWeights(here, target.parent, own=target.name)


def in_clone(weights: Weights, target: Path) -> PlacedWeights:
    """The tensors where they lie in `target`, which is a clone of the file that holds them."""
    here = {
        parameter: (name, replace(tensor, path=target))
        for parameter, (name, tensor) in weights.items()
    }
    return PlacedWeights(here, target.parent, own=target.name)


def in_place(weights: Weights) -> PlacedWeights:
    """The weights as they lie in the source.

    Links are resolved, since ONNX Runtime follows none. A tensor whose bytes must be rearranged
    becomes part of the graph itself. Raises BuildError where the files do not lie in one folder.
    """
    here = {
        parameter: (name, replace(tensor, path=tensor.path.resolve()))
        for parameter, (name, tensor) in weights.items()
    }
    folders = sorted({tensor.path.parent for _, tensor in here.values()})
    if len(folders) > 1:
        raise BuildError(
            f"{folders[0]} and {folders[1]}: weights of one network in several folders cannot be "
            "left in place; put them into one, or build without --in-place"
        )
    return PlacedWeights(here, folders[0])


def whole_file(weights: Weights) -> Path | None:
    """The file that holds just these tensors under their published names, as readers of the package
    expect it; None where there is none such."""
    tensors = dict(weights.values())
    files = {tensor.path for tensor in tensors.values()}
    if len(files) > 1:
        return None
    (file,) = files
    return file if read_header(file) == tensors else None


def clone(source: Path, target: Path) -> bool:
    """Make `target` share the blocks of `source`; False where the file system cannot."""
    with source.open("rb") as stored, target.open("xb") as shared:
        try:
            fcntl.ioctl(shared.fileno(), _FICLONE, stored.fileno())
        except OSError:
            target.unlink()
            return False
    return True


def check_space(folder: Path, needed: int) -> None:
    """Raise BuildError unless so many bytes fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BuildError(
            f"{folder.parent}: the weights take {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are "
            "free on that disk; make room, choose another disk with --engines, or leave the "
            "weights where they are with --in-place"
        )
