"""Faults of a body against a model's parameter schema, in words: a value's form first.

Where a value's type is wrong, nothing else is said of that value, since no other rule was made for
it. The hints for what users of other tools write are those of `runtime.plan.hints`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from runtime.errors import Fault
from runtime.plan.hints import (
    field_hint,
    limit_hint,
    lora_form,
    lora_hint,
    multiple_hint,
    type_hint,
    value_hint,
)

MAX_FAULTS = 100
"""Most faults that one answer lists: a body of a megabyte can hold a hundred thousand."""


def schema_faults(body: object, schema: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of a body by this JSON Schema, sorted by place; MAX_FAULTS errors at most."""
    errors = list(islice(Draft202012Validator(schema).iter_errors(body), MAX_FAULTS))
    misshapen = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    for error in sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]):
        if error.validator == "type" or tuple(error.absolute_path) not in misshapen:
            yield from _explain(error)


def pointer_to(path: Sequence[str | int] | Any) -> str:
    """A JSON pointer (RFC 6901); invalid Unicode is replaced, since the pointer is text."""
    parts = (str(part).encode("utf-8", "replace").decode() for part in path)
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def _explain(error: ValidationError) -> Iterator[Fault]:
    pointer = pointer_to(error.absolute_path)
    rule = error.schema if isinstance(error.schema, Mapping) else {}
    if error.validator == "oneOf":
        yield from _lora_faults(error)
    elif error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = rule["properties"]
        for name in sorted(set(error.instance) - set(known)):
            hint = field_hint(name, known)
            meant = f"unknown field: {hint}" if hint else "unknown field"
            detail = f"{meant}; this model takes {', '.join(known)}"
            yield Fault(pointer_to([*error.absolute_path, name]), detail)
    elif error.validator == "required" and isinstance(error.instance, Mapping):
        for name in rule["required"]:
            if name not in error.instance:
                form = f"; a LoRA is written as {lora_form(error.instance)}" if pointer else ""
                yield Fault(f"{pointer}/{name}", f"missing, and required{form}")
    elif "x-refusal" in rule:
        yield Fault(pointer, f"{_shown(error.instance)}: {rule['x-refusal']}")
    else:
        hint = _hint(error, rule)
        yield Fault(
            pointer, f"{_shown(error.instance)} {_expectation(error)}{hint and f'; {hint}'}"
        )


def _lora_faults(error: ValidationError) -> Iterator[Fault]:
    """Faults of a LoRA by the alternative that has its id; one fault where no alternative has."""
    identity = error.instance.get("id") if isinstance(error.instance, Mapping) else None
    alternatives: Any = error.validator_value
    known = [alternative["properties"]["id"]["const"] for alternative in alternatives]
    if identity in known:
        index = known.index(identity)
        meant = [each for each in error.context or () if each.schema_path[0] == index]
        yield from chain.from_iterable(map(_explain, meant))
    elif isinstance(identity, str):
        form = [each for each in error.context or () if _is_form(each) and each.schema_path[0] == 0]
        yield from chain.from_iterable(map(_explain, form))
        names = [alternative["title"] for alternative in alternatives]
        hint = lora_hint(identity, dict(zip([*names, *known], [*known, *known], strict=True)))
        detail = f"{_shown(identity)} is no LoRA that this model has: {', '.join(known)}"
        yield Fault(pointer_to([*error.absolute_path, "id"]), _joined(detail, hint))


def _is_form(error: ValidationError) -> bool:
    """True for a fault of a LoRA that is one whichever LoRA the id names."""
    return error.validator in ("type", "additionalProperties")


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


def _named(value: object) -> str:
    return "null" if value is None else str(value)


def _expectation(error: ValidationError) -> str:
    limit: Any = error.validator_value
    shown = ", ".join(map(_named, limit)) if isinstance(limit, list) else limit
    rule = _EXPECTATIONS.get(str(error.validator))
    return rule.format(shown) if rule else f"does not fit: {error.message[:200]}"


def _hint(error: ValidationError, rule: Mapping[str, Any]) -> str:
    path = error.absolute_path
    value: Any = error.instance
    field = str(path[-1]) if path else ""
    limit: Any = error.validator_value
    match error.validator:
        case "type":
            return _form(path, value, rule)
        case "enum" if isinstance(value, str):
            return value_hint(field, value, [each for each in limit if isinstance(each, str)])
        case "minimum" | "maximum":
            return limit_hint(field, value)
        case "multipleOf":
            return multiple_hint(value, limit, (rule["minimum"], rule["maximum"]))
    return ""


def _form(path: Sequence[str | int], value: object, rule: Mapping[str, Any]) -> str:
    match list(path):
        case []:
            return 'send an object, such as {"prompt": "a cat"}'
        case ["loras"]:
            return f"give a list: [{lora_form(value)}]"
        case ["loras", int()]:
            return f"a LoRA is written as {lora_form(value)}"
        case ["seed"] if value == "-1":
            return limit_hint("seed", -1)
    if value is None:
        return "leave it out for its default" if "default" in rule else ""
    types = rule["type"]
    return type_hint(value, types if isinstance(types, list) else [types])


def _joined(detail: str, hint: str) -> str:
    return f"{detail}; {hint}" if hint else detail


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
