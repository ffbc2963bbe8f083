"""Files of textual inversions as trainers save them, read into vectors for each text encoder.

The vectors of SDXL's two encoders are called `clip_l` and `clip_g` by kohya's scripts
(sdxl_train_textual_inversion.py), AUTOMATIC1111's web UI and OneTrainer, and `text_encoders_0` and
`text_encoders_1` by diffusers' advanced training scripts. A file for a model of one encoder has one
tensor: `emb_params` (kohya, the web UI), `string_to_param.*`, or the word itself (diffusers, whose
textual_inversion_sdxl.py writes two such files).
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engine_build.checkpoint.weights import read_header
from engine_build.lora.endings import split
from runtime.errors import PackageError, SourceError
from runtime.package.file_record import FileRecord, record_file
from runtime.package.inversion import VECTORS_NAME, Word, word_fault
from runtime.package.manifest import Manifest
from runtime.package.tensors import READABLE, Tensor, map_tensors
from runtime.plan.families import family_named

FIRST, SECOND = "text_encoder", "text_encoder_2"

_ROLES = {
    "clip_l": FIRST,
    "clip_g": SECOND,
    "text_encoders_0": FIRST,
    "text_encoders_1": SECOND,
}

_BUNDLED = "bundle_emb."
"""The beginning of the names of the tensors that a LoRA's file has of its embeddings."""

_OTHERS = {
    768: "of Stable Diffusion 1.x",
    1024: "of Stable Diffusion 2.x",
    1280: "of SDXL's second text encoder",
    4096: "of a model with T5",
}
"""The models of which a file with one tensor this wide is."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """A word that was read, with its vectors `[vectors, width]` by role."""

    word: Word
    by_role: Mapping[str, NDArray[np.float32]]

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The vectors by the names that a pack's file has."""
        return {self.word.tensor_name(role): array for role, array in self.by_role.items()}


def read_embedding(path: Path, name: str, longest: int) -> Vectors:
    """Read a file; `name` is the word's, and `longest` the most tokens that a prompt's chunk holds.

    Raises SourceError where the file is no safetensors file, or no embedding for SDXL.
    """
    if path.suffix in (".pt", ".bin", ".ckpt", ".pth"):
        raise SourceError(
            f"{path}: a pickled file, which can run code, and is not read; get its .safetensors "
            "file, or convert it where you trust it"
        )
    if path.suffix != ".safetensors":
        raise SourceError(f"{path}: expected a .safetensors file")
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    for tensor, stored in read_header(path).items():
        if stored.dtype not in READABLE:
            expected = ", ".join(sorted(READABLE))
            raise SourceError(f"{path}: {tensor} is stored as {stored.dtype}, expected {expected}")
    tensors = map_tensors(path)
    bundled = sorted(each for each in tensors if each.startswith(_BUNDLED))
    if bundled:
        raise SourceError(
            f"{path}: a LoRA with embeddings in it, such as {bundled[0]}; add it with: "
            "engine-build lora add"
        )
    return _vectors(path, name, tensors, longest)


def bundled(path: Path, tensors: Mapping[str, Tensor], manifest: Manifest) -> tuple[Vectors, ...]:
    """The embeddings inside a LoRA's file, of which these are the tensors: `bundle_emb.WORD.KEY`.

    Raises SourceError, as `read_embedding`, and for embeddings of another model.
    """
    words: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        word, _, key = name.removeprefix(_BUNDLED).rpartition(".")
        words[word.removesuffix(".string_to_param")][key] = tensor
    if not words:
        return ()
    longest = most_vectors(manifest)
    found = tuple(_vectors(path, name, own, longest) for name, own in words.items())
    for each in found:
        if fault := word_fault(each.word, manifest):
            raise SourceError(f"{path}: {fault}")
    return found


def is_bundled(name: str) -> bool:
    """True for the name of a tensor that belongs to an embedding inside a LoRA's file."""
    return name.startswith(_BUNDLED)


def write_vectors(folder: Path, words: tuple[Vectors, ...]) -> FileRecord:
    """Write the vectors of some words into a pack that is being made."""
    path = folder / VECTORS_NAME
    save_file({name: array for word in words for name, array in word.tensors().items()}, path)
    # safetensors lets only its owner read it, and a server may run as another.
    path.chmod(0o644)
    return record_file(path)


def most_vectors(manifest: Manifest) -> int:
    """The most vectors that a word may have, since it must fit in one chunk of a prompt.

    Raises PackageError for a model that takes no embeddings.
    """
    family = family_named(manifest.family)
    encoders = family.facts(manifest).inversions
    if not encoders:
        raise PackageError(
            f"{manifest.name}: {family.facts(manifest).title} models take no embeddings; SDXL and "
            "its descendants do"
        )
    # Without the begin and the end of a chunk.
    return min(manifest.tokenizers[tokenizer].max_length - 2 for _, tokenizer in encoders)


def _vectors(path: Path, name: str, tensors: Mapping[str, Tensor], longest: int) -> Vectors:
    if not name.strip():
        raise SourceError(f"{path}: an embedding without a name")
    unknown = sorted(tensors.keys() - _ROLES.keys())
    if unknown:
        raise _refusal(path, name, tensors, unknown)
    by_role = {_ROLES[key]: _table(path, key, tensor) for key, tensor in tensors.items()}
    missing = sorted({FIRST, SECOND} - by_role.keys())
    if missing or len(by_role) < len(tensors):
        found = ", ".join(sorted(tensors)) or "no tensors"
        raise SourceError(f"{path}: {name} has {found}, expected clip_l and clip_g, once each")
    counts = {len(array) for array in by_role.values()}
    if len(counts) > 1 or not 0 < max(counts) <= longest:
        found = " and ".join(str(len(by_role[role])) for role in (FIRST, SECOND))
        raise SourceError(
            f"{path}: {name} has {found} vectors, expected as many in both, from 1 to {longest}"
        )
    widths = {role: array.shape[1] for role, array in by_role.items()}
    return Vectors(Word(name, counts.pop(), widths), by_role)


def _table(path: Path, key: str, tensor: Tensor) -> NDArray[np.float32]:
    values = tensor.fp32()
    # A single vector may lack its first axis.
    table = values.reshape(1, -1) if values.ndim == 1 else values
    if table.ndim != 2 or not table.size:
        raise SourceError(f"{path}: {key} is {list(values.shape)}, expected [vectors, width]")
    if not np.isfinite(table).all():
        raise SourceError(f"{path}: {key} is not finite")
    return np.ascontiguousarray(table)


def _refusal(
    path: Path, name: str, tensors: Mapping[str, Tensor], unknown: list[str]
) -> SourceError:
    width = tensors[unknown[0]].values.shape[-1:]
    model = _OTHERS.get(*width) if len(tensors) == 1 and width else None
    if model is not None:
        return SourceError(
            f"{path}: {name} is an embedding {model}, with vectors {width[0]} wide alone; SDXL "
            "needs clip_l and clip_g"
        )
    outputs = [key for key in unknown if key.removesuffix("_out") in _ROLES]
    if outputs:
        return SourceError(
            f"{path}: {outputs[0]} acts behind the text encoder (OneTrainer's output embedding), "
            "and is not supported; train it without"
        )
    if any(split(key) for key in unknown):
        return SourceError(f"{path}: a LoRA, not an embedding; add it with: engine-build lora add")
    return SourceError(
        f"{path}: {unknown[0]} belongs to no embedding of SDXL, expected clip_l and clip_g"
    )
