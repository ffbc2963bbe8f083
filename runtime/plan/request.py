"""A request for one picture: the body of `/api/generate`, checked and frozen.

A body is checked against the loaded model's parameter schema (`runtime.plan.parameters`), so that
the command line, the API and its documentation state one set of rules. Every fault is reported, not
the first one alone.
"""

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from runtime.errors import Fault, RequestError

OutputFormat = Literal["png", "webp", "jpeg"]
Priority = Literal["interactive", "batch"]

MAX_SEED = 2**32 - 1
MAX_DIGITS = 310
"""Longest integer literal that is parsed; more digits exceed every float."""

MAX_FAULTS = 100
"""Most faults that one answer lists: a body of a megabyte can hold a hundred thousand."""


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """A LoRA pack, its weight, and the emphasis of its trigger words."""

    id: str
    weight: float
    trigger_weight: float


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One picture, with every default filled in and its seed drawn. Sizes are in pixels."""

    prompt: str
    negative_prompt: str | None
    """None when the body names no negative prompt; some families tell that from an empty text."""
    width: int
    height: int
    seed: int
    loras: tuple[LoraChoice, ...]
    steps: int
    cfg_scale: float | None
    sampler: str
    schedule: str
    clip_skip: int
    guidance_rescale: float
    guidance_interval: tuple[float, float] | None
    """Begin and end of guidance, as fractions of all steps; None for guidance at every step."""
    prompt_weighting: bool
    output_format: OutputFormat
    preview_every: int
    priority: Priority

    def to_json(self) -> dict[str, Any]:
        """The complete body that reproduces this request."""
        body = asdict(self)
        body["loras"] = [asdict(lora) for lora in self.loras]
        if self.guidance_interval is not None:
            body["guidance_interval"] = list(self.guidance_interval)
        return body


def draw_seed() -> int:
    """A random seed, for a request that names none."""
    return secrets.randbelow(MAX_SEED + 1)


def read_json(text: str | bytes) -> object:
    """Parse a body. Raises ValueError for invalid JSON, NaN and Infinity included."""

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no JSON number")

    return json.loads(text, parse_constant=refuse, parse_int=_read_integer)


def _read_integer(digits: str) -> int | float:
    """An integer; infinity beyond MAX_DIGITS, which the field's own limits then refuse."""
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def read_request(
    body: object, schema: Mapping[str, Any], seed: Callable[[], int] = draw_seed
) -> GenerateRequest:
    """Check a parsed body against a model's parameter schema and fill in every default.

    Raises RequestError with every fault in the body, or the first MAX_FAULTS of them.
    """
    faults = list(islice(chain(_schema_faults(body, schema), _text_faults(body)), MAX_FAULTS))
    if not faults and isinstance(body, Mapping):
        faults += _meaning_faults(body)
    if faults or not isinstance(body, Mapping):
        raise RequestError.of(faults)
    complete = {**_defaults(schema), **body}
    interval = complete["guidance_interval"]
    return GenerateRequest(
        prompt=complete["prompt"],
        negative_prompt=complete["negative_prompt"],
        width=int(complete["width"]),
        height=int(complete["height"]),
        seed=int(complete["seed"]) if complete["seed"] is not None else seed(),
        loras=tuple(_lora(choice, schema) for choice in complete["loras"]),
        steps=int(complete["steps"]),
        cfg_scale=None if complete["cfg_scale"] is None else float(complete["cfg_scale"]),
        sampler=complete["sampler"],
        schedule=complete["schedule"],
        clip_skip=int(complete["clip_skip"]),
        guidance_rescale=float(complete["guidance_rescale"]),
        guidance_interval=None if interval is None else (float(interval[0]), float(interval[1])),
        prompt_weighting=complete["prompt_weighting"],
        output_format=complete["output_format"],
        preview_every=int(complete["preview_every"]),
        priority=complete["priority"],
    )


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: rule["default"] for name, rule in schema["properties"].items() if "default" in rule
    }


def _lora(choice: Mapping[str, Any], schema: Mapping[str, Any]) -> LoraChoice:
    rules = schema["properties"]["loras"]["items"]
    own = {rule["properties"]["id"]["const"]: _defaults(rule) for rule in rules["oneOf"]}
    complete = {**own[choice["id"]], **choice}
    return LoraChoice(choice["id"], float(complete["weight"]), float(complete["trigger_weight"]))


def _schema_faults(body: object, schema: Mapping[str, Any]) -> Iterator[Fault]:
    errors = islice(Draft202012Validator(schema).iter_errors(body), MAX_FAULTS)
    for error in sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]):
        yield from _explain(error)


def _explain(error: ValidationError) -> Iterator[Fault]:
    pointer = _pointer(error.absolute_path)
    rule = error.schema if isinstance(error.schema, Mapping) else {}
    if error.validator == "oneOf":
        meant = _branch_errors(error)
        if meant:
            yield from chain.from_iterable(_explain(each) for each in meant)
            return
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = rule["properties"]
        for name in sorted(set(error.instance) - set(known)):
            detail = f"unknown field; this model takes {', '.join(known)}"
            yield Fault(_pointer([*error.absolute_path, name]), detail)
    elif error.validator == "required" and isinstance(error.instance, Mapping):
        for name in rule["required"]:
            if name not in error.instance:
                yield Fault(f"{pointer}/{name}", "missing, and required")
    elif "x-refusal" in rule:
        yield Fault(pointer, f"{_shown(error.instance)}: {rule['x-refusal']}")
    else:
        yield Fault(pointer, f"{_shown(error.instance)} {_expectation(error)}")


def _branch_errors(error: ValidationError) -> list[ValidationError]:
    """Errors by the alternative whose id the value has; none when no alternative has that id."""
    identity = error.instance.get("id") if isinstance(error.instance, Mapping) else None
    alternatives: Any = error.validator_value
    known = [alternative["properties"]["id"]["const"] for alternative in alternatives]
    index = known.index(identity) if identity in known else None
    return [each for each in error.context or () if each.schema_path[0] == index]


_EXPECTATIONS = {
    "type": "is not of type {}",
    "enum": "is not one of {}",
    "minimum": "is less than the minimum, {}",
    "maximum": "is more than the maximum, {}",
    "multipleOf": "is no multiple of {}",
    "maxLength": "is longer than {} characters",
    "minItems": "has fewer than {} items",
    "maxItems": "has more than {} items",
}


def _expectation(error: ValidationError) -> str:
    limit: Any = error.validator_value
    shown = ", ".join(map(str, limit)) if isinstance(limit, list) else limit
    rule = _EXPECTATIONS.get(str(error.validator))
    return rule.format(shown) if rule else f"does not fit: {error.message[:200]}"


def _text_faults(value: object, path: Sequence[str | int] = ()) -> Iterator[Fault]:
    """Faults beyond JSON Schema: text that is no valid Unicode, numbers that are not finite."""
    match value:
        case str():
            bad = next((i for i, letter in enumerate(value) if "\ud800" <= letter <= "\udfff"), -1)
            if bad >= 0:
                detail = f"no Unicode text: a lone surrogate at position {bad}"
                yield Fault(_pointer(path), detail)
        case float() if not math.isfinite(value):
            yield Fault(_pointer(path), "is not a finite number")
        case Mapping():
            for name, member in value.items():
                yield from _text_faults(member, [*path, name])
        case list():
            for index, member in enumerate(value):
                yield from _text_faults(member, [*path, index])


def _meaning_faults(body: Mapping[str, Any]) -> Iterator[Fault]:
    interval = body.get("guidance_interval")
    if interval is not None and interval[0] > interval[1]:
        yield Fault("/guidance_interval", f"{interval} ends before it begins; give [from, to]")
    seen: set[str] = set()
    for index, choice in enumerate(body.get("loras", ())):
        if choice["id"] in seen:
            yield Fault(f"/loras/{index}/id", f"{choice['id']!r} is named twice; name it once")
        seen.add(choice["id"])


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _pointer(path: Sequence[str | int] | Any) -> str:
    """A JSON pointer (RFC 6901); invalid Unicode is replaced, since the pointer is text."""
    parts = (str(part).encode("utf-8", "replace").decode() for part in path)
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
