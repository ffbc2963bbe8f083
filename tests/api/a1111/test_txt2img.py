"""The meaning of a body of txt2img, on families that differ."""

from dataclasses import replace
from typing import Any

import pytest

from api.a1111.txt2img import Txt2Img
from runtime.errors import RequestError
from runtime.plan.families.family import Guidance
from tests.api.a1111.test_names import model
from tests.tiny.manifests import MANIFEST

SDXL = Txt2Img.of(model())


def of_family(family: str, **options: object) -> Txt2Img:
    """The body for a model of a family that flows."""
    defaults = replace(MANIFEST.defaults, sampler="euler")
    manifest = replace(MANIFEST, family=family, family_options=options, defaults=defaults)
    return Txt2Img.of(model(manifest))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"prompt": "", "sampler": "euler_a", "n": 1}),
        ({"n_iter": 3, "batch_size": 2}, {"n": 6}),
        ({"prompt": "x", "seed": -1, "steps": None}, {"prompt": "x", "sampler": "euler_a"}),
        ({"seed": 7, "negative_prompt": ""}, {"seed": 7, "negative_prompt": None}),
        ({"override_settings": {"CLIP_stop_at_last_layers": 1}}, {"clip_skip": 0}),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, {"clip_skip": 0}),
        ({"override_settings": {"CLIP_stop_at_last_layers": 3}}, {"clip_skip": 1}),
        ({"clip_skip": 4, "override_settings": None}, {"clip_skip": 2}),
        ({"sampler_index": "LMS", "sampler_name": None}, {"sampler": "lms"}),
        ({"sampler_index": "LMS", "sampler_name": "Heun"}, {"sampler": "heun"}),
        ({"scheduler": "SGM Uniform"}, {"sampler": "euler_a", "schedule": "sgm_uniform"}),
        ({"sampler_name": "DDIM", "eta": 0}, {"sampler": "ddim"}),
        ({"sampler_name": "Euler", "eta": 0.3}, {"sampler": "euler"}),
        ({"cfg_scale": 5, "distilled_cfg_scale": 3.5}, {"cfg_scale": 5}),
        ({"override_settings": {"sd_model_checkpoint": "paper"}}, {"sampler": "euler_a"}),
    ],
)
def test_a_body_is_a_request(body: dict[str, Any], expected: dict[str, Any]) -> None:
    request = SDXL.read(body).order
    assert expected.items() <= request.items()
    assert set(request) <= {"prompt", "sampler", "n", *expected}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"sampler_name": "DDIM", "eta": 1.0}, "eta: 1.0 is not served with DDIM, whose eta is 0"),
        ({"sampler_name": "Euler a", "eta": 0}, "whose eta is 1; give that"),
        ({"n_iter": 4, "batch_size": 3}, "n_iter * batch_size is 12; a request is 10 at most"),
        (
            {"clip_skip": 1, "override_settings": {"CLIP_stop_at_last_layers": 2}},
            "clip_skip: 1, while CLIP_stop_at_last_layers is 2",
        ),
        ({"tiling": True, "restore_faces": True}, "restore_faces: "),
        ([], "is not of type object"),
    ],
)
def test_a_body_that_means_nothing_here_is_refused(body: object, fault: str) -> None:
    with pytest.raises(RequestError) as raised:
        SDXL.read(body)
    assert fault in str(raised.value)


def test_guidance_is_where_the_model_has_it() -> None:
    told = of_family("flux", guidance_embeds=True)
    assert told.guidance is Guidance.DISTILLED
    assert told.read({"cfg_scale": 1, "distilled_cfg_scale": 3}).order["cfg_scale"] == 3
    assert told.read({"cfg_scale": 4}).order["cfg_scale"] == 4
    none = of_family("zimage")
    assert none.guidance is Guidance.NONE
    assert "cfg_scale" not in none.read({"cfg_scale": 1, "distilled_cfg_scale": 3}).order
    with pytest.raises(RequestError, match="cfg_scale: 7: this model has no guidance; give 1"):
        none.read({"cfg_scale": 7})
