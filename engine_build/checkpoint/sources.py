"""Opens a checkpoint folder as diffusers lays it out; its errors name the fault in one line.

Nothing is loaded here but small JSON files and the headers of the weight files.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine_build.checkpoint.counts import check_counts
from engine_build.checkpoint.printable import printable
from engine_build.checkpoint.weights import Checkpoint, read_checkpoint
from runtime.errors import SourceError, quoted
from runtime.files import parse_json

EXPECTED = "expected a diffusers folder (with a model_index.json) or a .safetensors file"

# How transformers says that a tokenizer has no limit.
_UNLIMITED = 10**30

# Each library saves its weights under a name of its own.
_WEIGHTS_STEM = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}


@dataclass(frozen=True, slots=True)
class Component:
    """One network of a pipeline on disk: `unet`, `text_encoder`, ..."""

    name: str
    path: Path
    """The folder of its config.json."""
    class_name: str
    config: Mapping[str, Any]
    checkpoint: Checkpoint
    variant: str | None
    """The suffix of the weight files that were taken, such as `fp16`; None for the plain ones."""
    from_single_file: bool = False
    """True where `path` has the configuration alone, and a single-file checkpoint the weights."""

    def __post_init__(self) -> None:
        """Refuse a configuration with absurd counts. Raises SourceError."""
        check_counts(self.path / "config.json", self.config, len(self.checkpoint.tensors))

    def setting(self, key: str) -> Any:
        """A value of config.json that must be there. Raises SourceError."""
        if self.config.get(key) is None:
            raise SourceError(f"{self.path / 'config.json'}: no {key} in it")
        return self.config[key]


@dataclass(frozen=True, slots=True)
class TokenizerFolder:
    """A tokenizer on disk."""

    path: Path
    max_length: int
    """The longest sequence in tokens, as the tokenizer's files state; a huge number for no
    limit."""


class ModelSource(Protocol):
    """A pipeline on disk, wherever its weights lie."""

    @property
    def path(self) -> Path:
        """The folder of its configurations, tokenizers and scheduler."""
        ...

    @property
    def pipeline_class(self) -> str:
        """The pipeline's class in diffusers."""
        ...

    @property
    def index(self) -> Mapping[str, Any]:
        """model_index.json."""
        ...

    def network(self, name: str, class_names: tuple[str, ...]) -> Component:
        """Open one network; raises SourceError unless it is there and of one of these classes."""
        ...

    def tokenizer(self, name: str) -> TokenizerFolder:
        """The folder of a tokenizer. Raises SourceError."""
        ...

    def scheduler(self) -> Mapping[str, Any]:
        """The scheduler's configuration. Raises SourceError."""
        ...


@dataclass(frozen=True, slots=True)
class DiffusersFolder:
    """A ModelSource with all in one folder, as `save_pretrained` of diffusers writes it."""

    path: Path
    pipeline_class: str
    index: Mapping[str, Any]
    """model_index.json: names of components with their library and class, and plain options."""

    def network(self, name: str, class_names: tuple[str, ...]) -> Component:
        """Open one network; raises SourceError unless it is there and of one of these classes."""
        library, class_name = self.declared_network(name, class_names)
        return open_network(self.path / name, library, class_name)

    def declared_network(self, name: str, class_names: tuple[str, ...]) -> tuple[str, str]:
        """A network's library and class, its weights unseen. Raises SourceError."""
        library, class_name = self._declared(name)
        if class_name not in class_names:
            raise SourceError(
                f"{self.path}: {name} is of class {printable(class_name)}, expected "
                f"{' or '.join(class_names)}"
            )
        return library, class_name

    def tokenizer(self, name: str) -> TokenizerFolder:
        """The folder of a tokenizer. Raises SourceError."""
        self._declared(name)
        path = self.path / name
        files = (("tokenizer.json",), ("vocab.json", "merges.txt"))
        if not any(all((path / file).is_file() for file in group) for group in files):
            raise SourceError(
                f"{path}: no tokenizer here, expected tokenizer.json, or vocab.json and merges.txt"
            )
        config = path / "tokenizer_config.json"
        length = read_json(config).get("model_max_length", _UNLIMITED)
        # transformers writes an unlimited length as a number with a fraction, in some versions.
        if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 1:
            raise SourceError(f"{config}: model_max_length is {quoted(length)}, expected a number")
        return TokenizerFolder(path, int(min(length, _UNLIMITED)))

    def scheduler(self) -> Mapping[str, Any]:
        """The scheduler's configuration, word for word."""
        self._declared("scheduler")
        return read_json(self.path / "scheduler" / "scheduler_config.json")

    def _declared(self, name: str) -> tuple[str, str]:
        entry = self.index.get(name)
        if not (isinstance(entry, list) and len(entry) == 2 and all(entry)):
            raise SourceError(
                f"{self.path}: component {name} is missing from model_index.json; "
                f"a {printable(self.pipeline_class)} needs it"
            )
        if not (self.path / name).is_dir():
            raise SourceError(
                f"{self.path}: component {name} is missing, expected the folder {self.path / name}"
            )
        return str(entry[0]), str(entry[1])


def open_folder(path: Path) -> DiffusersFolder:
    """Open a diffusers folder. Raises SourceError that names what was found instead."""
    if not path.exists():
        raise SourceError(f"{path}: there is no such folder; {EXPECTED}")
    if path.is_file():
        raise SourceError(f"{path}: a file; {EXPECTED}")
    if not (path / "model_index.json").is_file() and (path / "config.json").is_file():
        raise SourceError(
            f"{path}: one network of a diffusers folder; give the folder that holds it and a "
            "model_index.json"
        )
    if not (path / "model_index.json").is_file():
        raise SourceError(f"{path}: no model_index.json in it; {EXPECTED}")
    index = read_json(path / "model_index.json")
    pipeline_class = index.get("_class_name")
    if not isinstance(pipeline_class, str):
        raise SourceError(f"{path / 'model_index.json'}: no _class_name in it; {EXPECTED}")
    return DiffusersFolder(path, pipeline_class, index)


def open_network(path: Path, library: str, class_name: str) -> Component:
    """Open the folder of one network: its configuration and the headers of its weights."""
    config = read_json(path / "config.json")
    files, variant = _weight_files(path, weights_stem(library))
    return Component(path.name, path, class_name, config, read_checkpoint(files), variant)


def open_preview_decoder(path: Path) -> Component:
    """Open the folder of a small preview decoder that diffusers saved."""
    if not path.is_dir():
        raise SourceError(
            f"{path}: there is no such folder; expected an AutoencoderTiny, as diffusers saves it"
        )
    class_name = read_json(path / "config.json").get("_class_name")
    return open_network(path, "diffusers", str(class_name))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises SourceError."""
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise SourceError(f"{path}: there is no such file; the source is incomplete") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path}: a JSON {type(content).__name__}, expected an object")
    return content


def weights_stem(library: str) -> str:
    """The name of the weight files of a network of this library, without its ending."""
    return _WEIGHTS_STEM.get(library, "model")


def chosen_weights(
    names: Iterable[str], stem: str, folder: object
) -> tuple[str, str | None] | None:
    """The weight file of a network among the files of its folder, or the index of its shards, and
    the variant of that file, such as `fp16`; None for no variant.

    Files of no variant win; without them, a variant is taken if it is the only one. The index is
    `STEM.safetensors.index.json`, or `STEM.safetensors.index.fp16.json` with a variant. Returns
    None where there are no weights. Raises SourceError where several variants could be meant.
    """
    whole = re.compile(rf"{re.escape(stem)}(?:\.(?P<variant>\w+))?\.safetensors")
    index = re.compile(rf"{re.escape(stem)}\.safetensors\.index(?:\.(?P<variant>\w+))?\.json")
    found: dict[str | None, str] = {}
    for name in sorted(names):
        match = whole.fullmatch(name) or index.fullmatch(name)
        if match:
            found.setdefault(match["variant"], name)
    if None in found:
        return found[None], None
    if len(found) > 1:
        listed = ", ".join(sorted(found.values()))
        raise SourceError(f"{folder}: several variants of the weights ({listed}); keep one of them")
    return next(((name, variant) for variant, name in found.items()), None)


def _weight_files(folder: Path, stem: str) -> tuple[tuple[Path, ...], str | None]:
    chosen = chosen_weights((path.name for path in folder.iterdir()), stem, folder)
    if chosen is None:
        raise SourceError(_no_weights(folder, stem))
    name, variant = chosen
    return (_shards(folder / name) if name.endswith(".json") else (folder / name,)), variant


def _no_weights(folder: Path, stem: str) -> str:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt"})
    if pickles:
        return (
            f"{folder / pickles[0]}: weights in Python's pickle format are not read, since opening "
            f"them can run code; expected {stem}.safetensors"
        )
    return f"{folder}: no weights in it, expected {stem}.safetensors"


def shards(index: Path) -> tuple[str, ...]:
    """The names of the files that an index lists. Raises SourceError."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{index}: no weight_map in it, so it lists no weight files")
    return tuple(sorted({str(name) for name in weight_map.values()}))


def _shards(index: Path) -> tuple[Path, ...]:
    names = shards(index)
    present = {path.name for path in index.parent.iterdir() if path.is_file()}
    for name in names:
        if Path(name).name != name or name not in present:
            raise SourceError(f"{index}: lists {printable(name)}, which is not in {index.parent}")
    return tuple(index.parent / name for name in names)
