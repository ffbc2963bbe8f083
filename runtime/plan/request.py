"""A request for one picture: the body of `/api/generate`, checked and frozen.

A body is checked against the loaded model's parameter schema (`runtime.plan.parameters`), so that
the command line, the API and its documentation state one set of rules. Every fault is reported, not
the first one alone.
"""

import json
import math
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any, Literal

from runtime.errors import Fault, RequestError
from runtime.plan.faults import MAX_FAULTS, pointer_to, schema_faults

OutputFormat = Literal["png", "webp", "jpeg"]
Priority = Literal["interactive", "batch"]

MAX_SEED = 2**32 - 1
MAX_DIGITS = 310
"""Longest integer literal that is parsed; more digits exceed every float."""


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
    model: str

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

    return json.loads(
        text, parse_constant=refuse, parse_int=_read_integer, object_pairs_hook=_read_object
    )


class _Ambiguous(dict[str, Any]):
    """An object of JSON that has a name twice, with the last value of each.

    Readers differ in the value that they take (RFC 8259, 4), so that no value is what was meant.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.names = [name for name, count in counts.items() if count > 1]


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _Ambiguous(pairs)


def _read_integer(digits: str) -> int | float:
    """An integer; infinity beyond MAX_DIGITS, which the field's own limits then refuse."""
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def read_request(
    body: object, schema: Mapping[str, Any], seed: Callable[[], int] = draw_seed
) -> GenerateRequest:
    """Check a parsed body against a model's parameter schema and fill in every default.

    Raises RequestError with every fault in the body, or the first MAX_FAULTS of them.
    """
    faults = list(islice(chain(schema_faults(body, schema), text_faults(body)), MAX_FAULTS))
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
        model=complete["model"],
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


def text_faults(value: object, path: Sequence[str | int] = ()) -> Iterator[Fault]:
    """Faults beyond JSON Schema: names that stand twice, text that is no valid Unicode, and numbers
    that are not finite.
    """
    if isinstance(value, _Ambiguous):
        for name in value.names:
            yield Fault(pointer_to([*path, name]), "stands twice in one object; give it once")
    match value:
        case str():
            bad = next((i for i, letter in enumerate(value) if "\ud800" <= letter <= "\udfff"), -1)
            if bad >= 0:
                detail = f"no Unicode text: a lone surrogate at position {bad}"
                yield Fault(pointer_to(path), detail)
        case float() if not math.isfinite(value):
            yield Fault(pointer_to(path), "is not a finite number")
        case Mapping():
            for name, member in value.items():
                yield from text_faults(name, [*path, name])
                yield from text_faults(member, [*path, name])
        case list():
            for index, member in enumerate(value):
                yield from text_faults(member, [*path, index])


def _meaning_faults(body: Mapping[str, Any]) -> Iterator[Fault]:
    interval = body.get("guidance_interval")
    if interval is not None and interval[0] > interval[1]:
        yield Fault("/guidance_interval", f"{interval} ends before it begins; give [from, to]")
    seen: set[str] = set()
    for index, choice in enumerate(body.get("loras", ())):
        if choice["id"] in seen:
            yield Fault(f"/loras/{index}/id", f"{choice['id']!r} is named twice; name it once")
        seen.add(choice["id"])
