"""Valid requests, and the message for each wrong one."""

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from runtime.errors import RequestError
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import LoraOffer, parameters_schema
from runtime.plan.request import read_json, read_request
from tests.hostile import odd_text, odd_value
from tests.inputs import Inputs
from tests.tiny.manifests import MANIFEST

INK = LoraOffer("ink", "Ink", "ink drawing", 0.8, 0.5)
SCHEMA = parameters_schema(MANIFEST, Sdxl().facts(MANIFEST))
SCHEMA_WITH_LORA = parameters_schema(MANIFEST, Sdxl().facts(MANIFEST), [INK])

WORDS = (
    *("Euler a", "DPM++ 2M Karras", "ink", "ink:0.8", "<lora:ink:1>", "true", "-1", "1024", "jpg"),
    "a \ud800",
)
OTHER_NAMES = ("name", "weight", "strength", "cfg", "size", "sampler_name", "other")

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "/prompt", "missing, and required"),
    ({"prompt": 7}, "/prompt", "7 is not of type string"),
    ({"prompt": "a" * 10_001}, "/prompt", "is longer than 10000 characters"),
    ({"prompt": "a\ud800"}, "/prompt", "a lone surrogate at position 1"),
    ({"width": 100}, "/width", "100 is no multiple of 32"),
    ({"width": 32}, "/width", "32 is less than the minimum, 64"),
    ({"height": 2048}, "/height", "2048 is more than the maximum, 1024"),
    ({"height": "128"}, "/height", '"128" is not of type integer'),
    ({"height": True}, "/height", "true is not of type integer"),
    ({"steps": 0}, "/steps", "0 is less than the minimum, 1"),
    ({"steps": 101}, "/steps", "101 is more than the maximum, 100"),
    ({"steps": 2.5}, "/steps", "2.5 is not of type integer"),
    ({"seed": -1}, "/seed", "-1 is less than the minimum, 0"),
    ({"seed": 2**32}, "/seed", "4294967296 is more than the maximum, 4294967295"),
    ({"cfg_scale": float("inf")}, "/cfg_scale", "is more than the maximum, 30"),
    ({"cfg_scale": float("nan")}, "/cfg_scale", "is not a finite number"),
    ({"cfg_scale": 0.5}, "/cfg_scale", "0.5 is less than the minimum, 1"),
    ({"sampler": "plms"}, "/sampler", '"plms" is not one of euler, euler_a, ddim'),
    ({"schedule": "exponential"}, "/schedule", "is not one of default, karras"),
    ({"clip_skip": -1}, "/clip_skip", "-1 is less than the minimum, 0"),
    ({"guidance_rescale": 1.5}, "/guidance_rescale", "1.5 is more than the maximum, 1"),
    ({"guidance_interval": [0.5]}, "/guidance_interval", "has fewer than 2 items"),
    ({"guidance_interval": [0.8, 0.2]}, "/guidance_interval", "ends before it begins"),
    ({"guidance_interval": [0, 2]}, "/guidance_interval/1", "2 is more than the maximum, 1"),
    ({"prompt_weighting": 1}, "/prompt_weighting", "1 is not of type boolean"),
    ({"output_format": "gif"}, "/output_format", '"gif" is not one of png, webp, jpeg'),
    ({"preview_every": -1}, "/preview_every", "-1 is less than the minimum, 0"),
    ({"priority": "high"}, "/priority", '"high" is not one of interactive, batch'),
    ({"loras": [{"id": "ink"}]}, "/loras", "this model has no LoRA packs"),
    ({"colour": 3}, "/colour", "unknown field; this model takes prompt, negative_prompt"),
    ({"a/b~c": 3}, "/a~1b~0c", "unknown field"),
]


@pytest.mark.parametrize(("fields", "pointer", "detail"), WRONG)
def test_wrong_field_is_refused_by_name(fields: dict[str, Any], pointer: str, detail: str) -> None:
    body = fields if not fields or "prompt" in fields else {"prompt": "a cat", **fields}
    with pytest.raises(RequestError) as caught:
        read_request(body, SCHEMA)
    (fault, *_) = caught.value.faults
    assert fault.pointer == pointer
    assert detail in fault.detail


@pytest.mark.parametrize("body", [None, 3, "a cat", ["a cat"], True])
def test_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(RequestError, match="is not of type object"):
        read_request(body, SCHEMA)


def test_every_fault_is_listed() -> None:
    with pytest.raises(RequestError) as caught:
        read_request({"width": 100, "steps": 0, "colour": "red"}, SCHEMA)
    pointers = {fault.pointer for fault in caught.value.faults}
    assert pointers == {"/prompt", "/width", "/steps", "/colour"}


def test_defaults_are_filled_in_and_the_seed_is_drawn() -> None:
    request = read_request({"prompt": "a cat"}, SCHEMA, seed=lambda: 1234)
    assert (request.width, request.height, request.steps) == (128, 128, 20)
    assert (request.sampler, request.cfg_scale) == ("euler_a", 7.0)
    assert request.seed == 1234
    assert request.negative_prompt is None


def test_complete_request_reads_back_as_itself() -> None:
    body = {"prompt": "ein Bär", "guidance_interval": [0.1, 1], "loras": [{"id": "ink"}]}
    request = read_request(body, SCHEMA_WITH_LORA)
    again = read_request(json.loads(json.dumps(request.to_json())), SCHEMA_WITH_LORA)
    assert again == request


def test_lora_takes_its_own_defaults() -> None:
    request = read_request(
        {"prompt": "", "loras": [{"id": "ink", "trigger_weight": 0}]}, SCHEMA_WITH_LORA
    )
    assert (request.loras[0].weight, request.loras[0].trigger_weight) == (0.8, 0.0)


@pytest.mark.parametrize(
    ("loras", "detail"),
    [
        ([{"id": "oil"}], "no LoRA that this model has: ink"),
        ([{"id": "ink", "weight": 3}], "loras.0.weight: 3 is more than the maximum, 2"),
        ([{"id": "ink", "strength": 1}], "loras.0.strength: unknown field"),
        ([{"weight": 1}], "loras.0.id: missing, and required"),
        ([{"id": 5}], "loras.0.id: 5 is not of type string$"),
        ([{"id": "ink"}, {"id": "ink"}], "named twice"),
    ],
)
def test_wrong_lora_is_refused(loras: list[dict[str, Any]], detail: str) -> None:
    with pytest.raises(RequestError, match=detail):
        read_request({"prompt": "", "loras": loras}, SCHEMA_WITH_LORA)


def test_field_that_the_family_lacks_is_refused_by_name_but_its_empty_value_is_fine() -> None:
    facts = replace(Sdxl().facts(MANIFEST), title="Plain", negative_prompt=False, loras=False)
    schema = parameters_schema(MANIFEST, facts)
    read_request({"prompt": "", "negative_prompt": "", "loras": []}, schema)
    with pytest.raises(RequestError, match="Plain models cannot honour this field"):
        read_request({"prompt": "", "negative_prompt": "blurry"}, schema)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', "{", "", "[1,]"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_json(text)


@pytest.mark.fuzz
def test_any_body_is_read_or_refused_in_lines_that_name_their_places(inputs: Inputs) -> None:
    """Fields of the schema and others, each often with a value of its own kind."""
    for chance in inputs:
        body = any_body(chance)
        try:
            request = read_request(body, SCHEMA_WITH_LORA)
        except RequestError as error:
            for fault in error.faults:
                assert fault.detail
                assert len(fault.detail.splitlines()) == 1
            continue
        assert read_request(request.to_json(), SCHEMA_WITH_LORA) == request


def any_body(chance: Random) -> dict[str, Any]:
    names = [*SCHEMA["properties"], *OTHER_NAMES, odd_text(chance, 6)]
    body = {name: any_value(chance) for name in chance.sample(names, chance.randrange(6))}
    return {"prompt": "a cat", **body} if chance.randrange(2) else body


def any_value(chance: Random) -> Any:
    kind = chance.randrange(8)
    if kind < 3:
        return chance.choice((*WORDS, 1, 2, 64, 0.5, 1.5, True, None, "euler", "png", [0, 1]))
    if kind == 3:
        return [any_value(chance) for _ in range(chance.randrange(3))]
    if kind == 4:
        names = (*OTHER_NAMES, "id", odd_text(chance, 3))
        return {name: any_value(chance) for name in chance.sample(names, chance.randrange(3))}
    if kind == 5:
        return [{"id": "ink", "weight": chance.choice((1, 0.5, -3, any_value(chance)))}]
    return odd_value(chance)
