"""LoRA files as trainers and libraries save them, read into layers of one form.

Kohya's scripts name a layer `lora_unet_` or `lora_te1_` and its path with underscores; diffusers
and PEFT keep the path's dots. Which factor of which method a tensor is follows from how its name
ends. What the paths mean is a model family's affair: `engine_build.lora.naming`.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_build.checkpoint.sources import read_json
from engine_build.checkpoint.weights import read_header, read_metadata
from engine_build.lora.inversions import is_bundled
from runtime.errors import SourceError
from runtime.package.pack import Kind
from runtime.package.tensors import READABLE, Tensor, map_tensors

_ALPHA = "alpha"
_MAGNITUDE = "magnitude"

# How the names of tensors end, and the factors that they are.
_ENDINGS = tuple(
    (re.compile(rf"(?P<module>.+?){ending}"), factor)
    for ending, factor in (
        (
            r"(?:\.lora_down|[._]lora\.down|\.lora_linear_layer\.down|\.lora_A(?:\.\w+)?)\.weight",
            "down",
        ),
        (r"(?:\.lora_up|[._]lora\.up|\.lora_linear_layer\.up|\.lora_B(?:\.\w+)?)\.weight", "up"),
        (r"\.lora_mid\.weight", "mid"),
        (r"\.(?:dora_scale|lora_magnitude_vector(?:\.\w+)?)", _MAGNITUDE),
        (r"\.hada_(?P<factor>w[12]_[ab]|t[12])", "loha"),
        (r"\.lokr_(?P<factor>w[12](?:_[ab])?|t2)", "lokr"),
        (r"(?:_lora)?\.alpha", _ALPHA),
    )
)

# The factors without which a layer of that kind is none.
_NEEDED: Mapping[Kind, tuple[tuple[str, ...], ...]] = {
    "lora": (("up", "down"),),
    "dora": (("up", "down"),),
    "loha": (("w1_a", "w1_b", "w2_a", "w2_b"),),
    "lokr": (
        ("w1", "w2"),
        ("w1", "w2_a", "w2_b"),
        ("w1_a", "w1_b", "w2"),
        ("w1_a", "w1_b", "w2_a", "w2_b"),
    ),
}

# The factor whose first extent is the rank; Kronecker factors that are whole have none.
_RANKED = ("down", "w2_b", "w1_b")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that a file changes."""

    module: str
    """The layer's path, as the file spells it."""
    kind: Kind
    scale: float
    factors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA file that was read."""

    path: Path
    layers: tuple[Layer, ...]
    unread: tuple[str, ...]
    """Names of tensors that belong to no layer which we know how to read."""
    metadata: Mapping[str, str]
    """The metadata that the trainer wrote into the file."""
    inversions: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of the textual inversions that the file comes with."""


def read_lora(path: Path) -> LoraFile:
    """Read a file; its numbers stay on disk.

    Raises SourceError where the file is no safetensors file, or has a dtype that is not read.
    """
    if path.suffix != ".safetensors":
        raise SourceError(f"{path}: expected a .safetensors file; other formats can run code")
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    for name, stored in read_header(path).items():
        if stored.dtype not in READABLE:
            expected = ", ".join(sorted(READABLE))
            raise SourceError(f"{path}: {name} is stored as {stored.dtype}, expected {expected}")
    metadata = read_metadata(path)
    adapter = _adapter(path, metadata)
    tensors = map_tensors(path)
    inversions = {name: tensors.pop(name) for name in list(tensors) if is_bundled(name)}
    layers, unread = [], []
    for module, found in _grouped(tensors).items():
        layer = _layer(module, {factor: tensor for factor, (_, tensor) in found.items()}, adapter)
        if layer is None:
            unread += [name for name, _ in found.values()]
        else:
            layers.append(layer)
    return LoraFile(path, tuple(layers), tuple(sorted(unread)), metadata, inversions)


def _grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, tuple[str, Tensor]]]:
    """For each layer its factors, each with the name of its tensor."""
    grouped: dict[str, dict[str, tuple[str, Tensor]]] = defaultdict(dict)
    for name, tensor in tensors.items():
        module, factor = _ending(name)
        grouped[module][factor] = name, tensor
    return grouped


def _ending(name: str) -> tuple[str, str]:
    for pattern, method in _ENDINGS:
        match = pattern.fullmatch(name)
        if match:
            named = match.groupdict().get("factor")
            return match["module"], method if named is None else f"{method}.{named}"
    return name, "unknown"


def _layer(module: str, found: Mapping[str, Tensor], adapter: "_Adapter") -> Layer | None:
    alpha = found.get(_ALPHA)
    factors = {
        factor.rpartition(".")[2]: tensor for factor, tensor in found.items() if factor != _ALPHA
    }
    kind = _kind(found)
    if not any(set(needed) <= set(factors) for needed in _NEEDED[kind]):
        return None
    rank = next((factors[name].values.shape[0] for name in _RANKED if name in factors), None)
    return Layer(module, kind, adapter.scale(module, rank, alpha), factors)


def _kind(found: Mapping[str, Tensor]) -> Kind:
    methods = {factor.partition(".")[0] for factor in found}
    if "loha" in methods:
        return "loha"
    if "lokr" in methods:
        return "lokr"
    return "dora" if _MAGNITUDE in methods else "lora"


@dataclass(frozen=True, slots=True)
class _Adapter:
    """PEFT's configuration, which has a layer's scale where the tensors have no alpha."""

    config: Callable[[str], Mapping[str, Any]]
    """The configuration for a layer's path; an empty one where there is none."""

    def scale(self, module: str, rank: int | None, alpha: Tensor | None) -> float:
        """alpha / rank; 1 where there is no alpha, and for factors that have no rank. An alpha of
        PEFT's configuration is divided by sqrt(rank) where `use_rslora` is set there."""
        if rank is None:
            return 1.0
        if alpha is not None:
            return float(alpha.fp32().reshape(-1)[0]) / rank
        config = self.config(module)
        value = config.get("lora_alpha", config.get("alpha", rank))
        patterns = config.get("alpha_pattern") or {}
        value = next((own for path, own in patterns.items() if _ends(module, path)), value)
        return float(value) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _ends(module: str, pattern: str) -> bool:
    """Match a path against a pattern of PEFT: a regular expression for the end of the path."""
    return re.fullmatch(rf"(?:.*\.)?(?:{pattern.removeprefix('^')})", module) is not None


def _adapter(path: Path, metadata: Mapping[str, str]) -> _Adapter:
    """Read PEFT's configuration: diffusers writes one for each network into the file, PEFT a file
    beside it.
    """
    beside = path.parent / "adapter_config.json"
    if path.stem == "adapter_model" and beside.is_file():
        config = read_json(beside)
        return _Adapter(lambda _: config)
    networks: dict[str, dict[str, Any]] = defaultdict(dict)
    for network, key, value in _inside(path, metadata):
        networks[network][key] = value
    return _Adapter(lambda module: networks.get(module.partition(".")[0], {}))


def _inside(path: Path, metadata: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    try:
        entries = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError as error:
        raise SourceError(f"{path}: its lora_adapter_metadata is no JSON ({error})") from error
    for name, value in entries.items():
        network, _, key = name.partition(".")
        yield network, key, value
