"""Messages about a wrong body: the form before the value, and hints for other tools' words."""

from dataclasses import replace
from typing import Any

import pytest

from runtime.errors import RequestError
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import LoraOffer, parameters_schema
from runtime.plan.request import read_request
from tests.tiny.manifests import MANIFEST

FACTS = Sdxl().facts(MANIFEST)
LORAS = [
    LoraOffer("ink", "Wash drawings", "", 1, 0.5),
    LoraOffer("monochrome", "Monochrome", "", 1, 0.5),
]
SCHEMA = parameters_schema(MANIFEST, FACTS, LORAS)


def faults(schema: dict[str, Any] = SCHEMA, **fields: Any) -> dict[str, str]:
    """Each fault of a body with these fields, by its pointer; a body has one at a place."""
    with pytest.raises(RequestError) as caught:
        read_request({"prompt": "a cat", **fields}, schema)
    found = {fault.pointer: fault.detail for fault in caught.value.faults}
    assert len(found) == len(caught.value.faults)
    return found


@pytest.mark.parametrize(
    ("loras", "pointer", "form"),
    [
        ("monochrome", "/loras", 'give a list: [{"id": "monochrome", "weight": 0.8}]'),
        ({"ink": 0.5}, "/loras", 'give a list: [{"id": "ink", "weight": 0.5}]'),
        (None, "/loras", 'give a list: [{"id": "ink", "weight": 0.8}]'),
        (["monochrome"], "/loras/0", 'is written as {"id": "monochrome", "weight": 0.8}'),
        (["ink:1.5"], "/loras/0", 'is written as {"id": "ink", "weight": 1.5}'),
        (["<lora:ink:-1>"], "/loras/0", 'is written as {"id": "ink", "weight": -1}'),
        ([["ink", 1]], "/loras/0", 'is written as {"id": "ink", "weight": 0.8}'),
        ([None], "/loras/0", "is not of type object; a LoRA is written as"),
        ([{"ink": 0.5}], "/loras/0/id", 'is written as {"id": "ink", "weight": 0.5}'),
        ([{"name": "ink", "strength": 2}], "/loras/0/id", '{"id": "ink", "weight": 2}'),
        ([{"id": 5}], "/loras/0/id", "5 is not of type string"),
    ],
)
def test_the_form_of_a_lora_is_told_before_its_value(loras: Any, pointer: str, form: str) -> None:
    [(found, detail)] = faults(loras=loras).items()
    assert (found, form in detail) == (pointer, True), detail
    assert "no LoRA that this model has" not in detail


@pytest.mark.parametrize(
    ("lora", "pointer", "form"),
    [
        ({"id": "oil", "weight": "1"}, "/loras/0/weight", "give 1, without quotes"),
        ({"id": "oil", "scale": 1}, "/loras/0/scale", "unknown field"),
    ],
)
def test_the_form_of_a_lora_that_is_not_there_is_told_first(
    lora: Any, pointer: str, form: str
) -> None:
    told = faults(loras=[lora])
    assert list(told) == [pointer, "/loras/0/id"]
    assert form in told[pointer]


@pytest.mark.parametrize("name", ["Ink.safetensors", "INK", "ink ", "wash drawing"])
def test_a_lora_that_is_not_there_is_told_with_the_one_that_may_be_meant(name: str) -> None:
    detail = faults(loras=[{"id": name}])["/loras/0/id"]
    assert detail.endswith(
        'is no LoRA that this model has: ink, monochrome; perhaps "ink" is meant'
    )
    assert faults(loras=[{"id": "oil"}])["/loras/0/id"].endswith("has: ink, monochrome")


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("width", "128", "give 128, without quotes"),
        ("width", "wide", "is not of type integer"),
        ("width", None, "leave it out for its default"),
        ("width", 100, "near are 96 and 128"),
        ("width", 1000, "near are 992 and 1024"),
        ("steps", "20.0", "give 20.0, without quotes"),
        ("steps", 20.5, "20.5 is not of type integer"),
        ("cfg_scale", "7,5", '"7,5" is not of type number'),
        ("cfg_scale", 0, "1 is no guidance"),
        ("cfg_scale", 31, "31 is more than the maximum, 30"),
        ("seed", -1, "for a seed that is drawn give null, or leave seed out"),
        ("seed", "-1", "for a seed that is drawn give null, or leave seed out"),
        ("seed", -2, "-2 is less than the minimum, 0"),
        ("prompt", ["a cat"], "give one text: a request is one picture"),
        ("prompt", None, "null is not of type string"),
        ("prompt_weighting", "true", "give true, without quotes"),
        ("prompt_weighting", "False", "give false, without quotes"),
        ("prompt_weighting", 1, "give true"),
        ("prompt_weighting", 2, "2 is not of type boolean"),
        ("sampler", "Euler a", 'here it is called "euler_a"'),
        ("sampler", "k_euler_ancestral", 'here it is called "euler_a"'),
        ("sampler", "dpmpp_2m_sde_gpu", 'here it is called "dpm++_2m_sde"'),
        ("sampler", "EulerDiscreteScheduler", 'here it is called "euler"'),
        ("sampler", "DPM++ 2M Karras", '"sampler": "dpm++_2m" with "schedule": "karras"'),
        ("sampler", "DPM++ SDE Karras", '"sampler": "dpm++_sde" with "schedule": "karras"'),
        ("sampler", "eular", 'perhaps "euler" is meant'),
        ("sampler", "UniPC", "lcm, tcd"),
        ("sampler", "Euler SGM Uniform", '"sampler": "euler" with "schedule": "sgm_uniform"'),
        ("sampler", "LCMScheduler", 'here it is called "lcm"'),
        ("schedule", "SGM Uniform", 'here it is called "sgm_uniform"'),
        ("schedule", "Karras", 'here it is called "karras"'),
        ("schedule", "Automatic", 'here it is called "default"'),
        ("output_format", "JPG", 'here it is called "jpeg"'),
        ("output_format", "image/webp", 'here it is called "webp"'),
    ],
)
def test_a_wrong_value_is_told_with_what_is_meant(field: str, value: Any, hint: str) -> None:
    [detail] = faults(**{field: value}).values()
    assert detail.endswith(hint)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cfg", "here it is called cfg_scale"),
        ("guidance_scale", "here it is called cfg_scale"),
        ("num_inference_steps", "here it is called steps"),
        ("sampler_name", "here it is called sampler"),
        ("scheduler", "here it is called schedule"),
        ("negative", "here it is called negative_prompt"),
        ("CLIP_stop_at_last_layers", "here it is called clip_skip, and is 0 for the 2 there"),
        ("negativePrompt", "perhaps negative_prompt is meant"),
        ("Prompt", "perhaps prompt is meant"),
        ("stpes", "perhaps steps is meant"),
        ("batch_size", "a request is one picture: send one for each"),
        ("init_images", "pictures are made from text alone"),
        ("size", "give width and height as numbers"),
    ],
)
def test_an_unknown_field_is_told_with_ours(name: str, hint: str) -> None:
    detail = faults(**{name: 1})[f"/{name}"]
    assert detail.startswith(f"unknown field: {hint}; this model takes prompt, ")


def test_an_unknown_field_of_a_lora_is_told_with_ours() -> None:
    found = faults(loras=[{"id": "ink", "strength": 1, "block": 2}])
    assert found["/loras/0/strength"].startswith("unknown field: here it is called weight;")
    assert found["/loras/0/block"].startswith("unknown field; this model takes id, weight")


def test_what_the_model_has_not_is_no_hint() -> None:
    schema = parameters_schema(
        MANIFEST, replace(FACTS, samplers=("euler",), schedules=("default",))
    )
    detail = faults(schema, sampler="Euler a", schedule="Karras")
    assert detail["/sampler"] == '"Euler a" is not one of euler'
    assert detail["/schedule"] == '"Karras" is not one of default'
    with_lcm = parameters_schema(MANIFEST, replace(FACTS, samplers=("euler", "lcm")))
    assert faults(with_lcm, sampler="LCM")["/sampler"].endswith('here it is called "lcm"')


@pytest.mark.parametrize("body", ["a cat", ["a cat"], None])
def test_a_body_of_another_form_is_told_how_one_is_written(body: object) -> None:
    with pytest.raises(RequestError, match=r'is not of type object; send an object, such as \{"p'):
        read_request(body, SCHEMA)
