"""Presets: TOML files that name a published model's source, its sizes and its defaults."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.errors import SourceError
from runtime.plan.parameters import MAX_CFG_SCALE, MAX_STEPS
from runtime.plan.sampling.samplers import SAMPLERS

_STRICT = ConfigDict(extra="forbid", strict=True)
_ENDING = ".toml"

_Side = Annotated[int, Field(ge=1)]


def _known_sampler(name: str) -> str:
    if name not in SAMPLERS:
        raise ValueError(f"{name!r} is no sampler, expected one of {', '.join(sorted(SAMPLERS))}")
    return name


@checked_dataclass(frozen=True, config=_STRICT)
class PresetDefaults:
    """Defaults of requests; None leaves a default to the family."""

    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    cfg_scale: Annotated[float, Field(ge=1, le=MAX_CFG_SCALE)] | None = None
    sampler: Annotated[str, AfterValidator(_known_sampler)] | None = None
    negative_prompt: str | None = None


@checked_dataclass(frozen=True, config=_STRICT)
class PresetLora:
    """A LoRA that is added to the package; None leaves a value to its host or its file."""

    reference: str
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    trigger: str | None = None
    weight: Annotated[float, Field(ge=-2, le=2)] = 1.0
    trigger_weight: Annotated[float, Field(ge=0, le=2)] = 0.5


@checked_dataclass(frozen=True, config=_STRICT)
class Preset:
    """A model as it is published; references are written as on the command line."""

    source: str
    description: str
    licence: str
    resolutions: Annotated[tuple[tuple[_Side, _Side], ...], Field(min_length=1)]
    """Widths and heights in pixels that the model was made for; the first pair is the default."""
    base: str | None = None
    """Reference to the diffusers folder that a single file's configurations come from."""
    preview_decoder: str | None = None
    guidance_baked_in: bool = False
    """The weights were distilled to need no guidance, which no file of the checkpoint says."""
    defaults: PresetDefaults = field(default_factory=PresetDefaults)
    loras: tuple[PresetLora, ...] = ()


_PRESET: TypeAdapter[Preset] = TypeAdapter(Preset)


def read_preset(name: str) -> Preset:
    """A preset of ours by its name, or a file by its path. Raises SourceError in one line."""
    own = name.endswith(_ENDING)
    file: Traversable = Path(name) if own else _folder() / f"{name}{_ENDING}"
    if not (file.is_file() if own else name in preset_names()):
        raise SourceError(
            f"{name}: there is no such preset, expected a path that ends with {_ENDING}, or one of "
            f"{', '.join(preset_names())}"
        )
    try:
        # Through JSON: pydantic's strict mode takes a JSON array for a tuple, and no Python list.
        content = json.dumps(tomllib.loads(file.read_text(encoding="utf-8")), default=str)
        return _PRESET.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SourceError(f"preset {name}: {where}: {first['msg']}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"preset {name}: no valid TOML ({error})") from error
    except ValueError as error:  # Python's limit of digits, in either direction.
        raise SourceError(f"preset {name}: an integer in it has thousands of digits") from error


def preset_names() -> tuple[str, ...]:
    """The names of the presets that come with Calotype, sorted."""
    return tuple(sorted(_names()))


def _names() -> Iterator[str]:
    for file in _folder().iterdir():
        if file.name.endswith(_ENDING):
            yield file.name.removesuffix(_ENDING)


def _folder() -> Traversable:
    return files("engine_build") / "presets"
