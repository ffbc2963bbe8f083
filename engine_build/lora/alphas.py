"""The scale of a layer's change, from wherever a file states it.

A tensor `alpha` beside the factors comes first; then PEFT's configuration (the file
`adapter_config.json` beside PEFT's, `lora_adapter_metadata` as diffusers writes it, or the same
settings as metadata of their own), then what kohya-ss/sd-scripts writes of its options. A file that
states none is scaled by 1, as kohya-ss/sd-scripts (networks/lora.py), ComfyUI (comfy/lora.py) and
diffusers (utils/peft_utils.py) take it: alpha is then the rank.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from engine_build.checkpoint.printable import printable
from engine_build.checkpoint.sources import read_json
from runtime.errors import SourceError

Settings: TypeAlias = Mapping[str, Any]

LINEAR_ALPHA, CONV_ALPHA = "ss_network_alpha", "conv_alpha"
"""Options of kohya's scripts."""

_NO_ONE_NUMBER = (None, "Dynamic", "None")

_PEFT = ("lora_alpha", "alpha", "network_alpha")
_RANK = ("r", "rank")
_SETTINGS = (
    *_PEFT,
    *_RANK,
    "alpha_pattern",
    "rank_pattern",
    "use_rslora",
    "use_dora",
    "init_lora_weights",
)

# Beginnings that subtract the factors from the model's weights (PEFT, tuners/lora/layer.py).
_MOVED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")

# Expressions whose search may never end: a repeated group, or more than three open repetitions.
_RUNAWAY = re.compile(r"\)[*+?{]|(?:[*+{].*){4}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Alphas:
    """The settings of a file that state its layers' scales, outside of their tensors."""

    path: Path
    whole: Settings = field(default_factory=dict)
    """PEFT's configuration for all networks."""
    networks: Mapping[str, Settings] = field(default_factory=dict)
    """PEFT's configurations by the name of a network: the first part of its layers' paths."""
    kohya: Settings = field(default_factory=dict)
    """Options of kohya's scripts: `ss_network_alpha` and `conv_alpha`."""

    @property
    def peft(self) -> bool:
        """True where there is a configuration of PEFT's."""
        return bool(self.whole or self.networks)

    def scale(self, module: str, rank: int | None, kohyas: str | None) -> float:
        """The scale of a layer that has no alpha of its own; `rank` is None for whole Kronecker
        factors, and `kohyas` names the option of kohya's scripts that holds for the layer: None
        where others named the factors, since those who convert a file multiply its alphas into the
        factors and keep its metadata (sd-scripts, networks/convert_flux_lora.py).

        Raises SourceError.
        """
        settings = self.networks.get(module.partition(".")[0], self.whole)
        alpha = self._stated(settings, module, "alpha_pattern", _PEFT)
        if rank is None:  # PEFT scales whole factors, too, by the rank that it was asked for.
            asked = self._stated(settings, module, "rank_pattern", _RANK)
            return 1.0 if alpha is None or asked is None else self._ratio(alpha, asked, settings)
        if alpha is not None:
            return self._ratio(alpha, rank, settings)
        alpha = None if kohyas is None else self.option(kohyas)
        return 1.0 if alpha is None else alpha / rank

    def option(self, name: str) -> float | None:
        """An option of kohya's scripts; None where the file states none. Raises SourceError."""
        value = self.kohya.get(name)
        return None if value is None else self._number(name, value)

    def fault(self, *, magnitudes: bool) -> str | None:
        """The reason why factors are not what PEFT's configuration says; None where they may be.

        `magnitudes` is True for a file with magnitudes of DoRA.
        """
        for settings in (self.whole, *self.networks.values()):
            start = str(settings.get("init_lora_weights", ""))[:40].lower()
            if start.startswith(_MOVED_BASES):
                return (
                    f"it began as {printable(start)}, which takes its factors out of the model's "
                    "weights: they go with weights that are not the model's own; save it with "
                    "PEFT's path_initial_model_for_weight_conversion"
                )
            if settings.get("use_dora") in (True, "true", "True") and not magnitudes:
                return "it says use_dora and has no magnitudes; save it with its adapter's weights"
        return None

    def _ratio(self, alpha: float, rank: float, settings: Settings) -> float:
        stabilized = settings.get("use_rslora") in (True, "true", "True")
        return alpha / (math.sqrt(rank) if stabilized else rank)

    def _stated(
        self, settings: Settings, module: str, pattern: str, names: tuple[str, ...]
    ) -> float | None:
        patterns = settings.get(pattern)
        for path, own in patterns.items() if isinstance(patterns, Mapping) else ():
            if _RUNAWAY.search(path):
                raise SourceError(
                    f"{self.path}: its {pattern} has {printable(path[:40])}, expected the end of a "
                    "layer's path, or an expression of it without repeated groups; mend its "
                    "metadata, or the adapter_config.json beside"
                )
            if _ends(module, path):
                return self._number(f"{pattern} of {printable(path)}", own)
        for name in names:
            if settings.get(name) is not None:
                return self._number(name, settings[name])
        return None

    def _number(self, name: str, value: object) -> float:
        number = _number(value)
        if number is None or (name in _RANK and number <= 0):
            raise SourceError(
                f"{self.path}: it states {name} {str(value)[:40]!r}, expected a number; mend its "
                "metadata, or the adapter_config.json beside"
            )
        return number


def read_alphas(path: Path, metadata: Mapping[str, str]) -> Alphas:
    """Read the settings of a file. Raises SourceError where they are damaged."""
    beside = path.parent / "adapter_config.json"
    whole, networks = _peft(path, metadata)
    if path.stem == "adapter_model" and beside.is_file():
        own, whole = whole.get("lora_alpha"), read_json(beside)
        theirs = whole.get("lora_alpha")
        if own is not None and _number(own) != _number(theirs):
            raise SourceError(
                f"{path}: its metadata states lora_alpha {printable(str(own))}, and {beside.name} "
                f"beside {printable(str(theirs))}; mend one of them"
            )
    return Alphas(path, whole, networks, _kohya(metadata))


def _peft(path: Path, metadata: Mapping[str, str]) -> tuple[Settings, Mapping[str, Settings]]:
    """The settings for all networks, and those by network."""
    whole: dict[str, Any] = {}
    networks: dict[str, dict[str, Any]] = {}
    for name, text in metadata.items():
        network, _, key = name.rpartition(".")  # SimpleTuner writes `unet.lora_alpha`.
        if key in _SETTINGS:
            settings = networks.setdefault(network, {}) if network else whole
            settings[key] = _json(text, text)
    for text in metadata.values():
        entries = _json(text, None) if "lora_alpha" in text else None
        whole |= entries if isinstance(entries, dict) else {}
    written = metadata.get("lora_adapter_metadata")
    entries = {} if written is None else _json(written, None)
    if not isinstance(entries, dict):
        raise SourceError(f"{path}: its lora_adapter_metadata is no JSON object")
    for name, value in entries.items():
        network, _, key = name.partition(".")
        if key:
            networks.setdefault(network, {})[key] = value
    return whole, networks


def _kohya(metadata: Mapping[str, str]) -> Settings:
    """Options of kohya-ss/sd-scripts; it writes `Dynamic` or `None` for what has no one number."""
    arguments = _json(metadata.get("ss_network_args", ""), {})
    conv = arguments.get("conv_alpha") if isinstance(arguments, dict) else None
    stated = {LINEAR_ALPHA: metadata.get(LINEAR_ALPHA), CONV_ALPHA: conv}
    return {name: value for name, value in stated.items() if value not in _NO_ONE_NUMBER}


def _json(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _ends(module: str, pattern: str) -> bool:
    """Match a path against a pattern of PEFT: a regular expression for the end of the path."""
    try:
        return re.fullmatch(rf"(?:.*\.)?(?:{pattern.removeprefix('^')})", module) is not None
    except (re.error, RecursionError, OverflowError):
        return module.endswith(pattern)
