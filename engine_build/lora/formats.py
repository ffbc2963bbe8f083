"""LoRA files as trainers and libraries save them: their tensors, each with the layer and the factor
that its name says.

Kohya's scripts name a layer `lora_unet_` or `lora_te1_` and its path with underscores; diffusers
and PEFT keep the path's dots. What the paths mean is a model family's affair
(`engine_build.lora.naming`), and so a layer's tensors are gathered only there
(`engine_build.lora.layers`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine_build.checkpoint.printable import printable
from engine_build.checkpoint.weights import StoredTensor, read_header, read_metadata
from engine_build.lora.alphas import LINEAR_ALPHA, Alphas, read_alphas
from engine_build.lora.endings import ALPHA, MAGNITUDES, Ending, split
from engine_build.lora.inversions import is_bundled
from engine_build.lora.signs import EMBEDDING, described, refused
from runtime.errors import SourceError
from runtime.package.tensors import READABLE, Tensor, map_tensors


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor of a layer."""

    name: str
    """The tensor's name, as a message can show the name."""
    module: str
    """The layer's path, as the file spells it."""
    ending: Ending
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA file that was read."""

    path: Path
    parts: tuple[Part, ...]
    unread: tuple[str, ...]
    """Names of tensors whose endings are none that we know."""
    alphas: Alphas
    metadata: Mapping[str, str]
    """The metadata that the trainer wrote into the file."""
    shapes: Mapping[str, tuple[int, ...]]
    """By the name of a tensor."""
    inversions: Mapping[str, Tensor]
    """Tensors of the textual inversions that the file comes with."""

    @property
    def described(self) -> str:
        """The file's method and its model, as far as the names say."""
        return described(self.shapes, self.metadata)

    @property
    def folded_alpha(self) -> float | None:
        """The alpha of kohya's metadata that is taken as multiplied into the factors; else None.

        Raises SourceError.
        """
        ups = [part for part in self.parts if part.ending.factor == "up"]
        stated = any(part.ending.factor == ALPHA for part in self.parts) or self.alphas.peft
        if stated or not ups or any(part.ending.kohya for part in ups):
            return None
        return self.alphas.option(LINEAR_ALPHA)


def read_lora(path: Path) -> LoraFile:
    """Read a file; its numbers stay on disk.

    Raises SourceError where the file is no safetensors file, is of a method that is not taken, or
    has a tensor that is empty or has a dtype that is not read.
    """
    if path.suffix != ".safetensors":
        raise SourceError(f"{path}: expected a .safetensors file; other formats can run code")
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    header, metadata = read_header(path), read_metadata(path)
    bundle = {name for name in header if is_bundled(name)}
    shapes = {name: each.shape for name, each in header.items() if name not in bundle}
    reason = refused(shapes)
    if reason is not None:
        raise SourceError(f"{path}: it is {described(shapes, metadata)}; {reason}")
    known = {name: found for name in shapes if (found := split(name)) is not None}
    if not known:
        what = described(shapes, metadata)
        remedy = "; add it with: engine-build embedding add" if what == EMBEDDING else ""
        raise SourceError(f"{path}: it holds no factors of a LoRA; it is {what}{remedy}")
    for name, stored in header.items():
        _check(path, name, stored)
    tensors = map_tensors(path)
    return LoraFile(
        path=path,
        parts=tuple(Part(printable(name), *found, tensors[name]) for name, found in known.items()),
        unread=tuple(sorted(shapes.keys() - known.keys())),
        alphas=_alphas(path, metadata, (ending for _, ending in known.values())),
        metadata=metadata,
        shapes=shapes,
        inversions={name: tensors[name] for name in bundle},
    )


def _alphas(path: Path, metadata: Mapping[str, str], endings: Iterable[Ending]) -> Alphas:
    alphas = read_alphas(path, metadata)
    magnitudes = any(ending.factor in MAGNITUDES for ending in endings)
    if fault := alphas.fault(magnitudes=magnitudes):
        raise SourceError(f"{path}: {fault}")
    return alphas


def _check(path: Path, name: str, stored: StoredTensor) -> None:
    shown = printable(name)
    if stored.dtype not in READABLE:
        expected = ", ".join(sorted(READABLE))
        raise SourceError(f"{path}: {shown} is stored as {stored.dtype}, expected {expected}")
    if 0 in stored.shape:
        raise SourceError(f"{path}: {shown} is empty, of the shape {list(stored.shape)}")
