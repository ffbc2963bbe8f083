"""Every family is served by the same code: a real server, a request, a picture."""

from base64 import b64decode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.api.conftest import Starter
from tests.api.live import Options, refused, small

TOO_LONG = " ".join(["rain"] * 600)


@dataclass(frozen=True, slots=True)
class Served:
    """A package of a family, and what is particular to it."""

    package: str
    fields: dict[str, Any]
    """Put into the request beside what every family takes."""
    defaults: dict[str, Any]
    """Defaults that a finished job's complete request must state."""
    refused: dict[str, Any]
    """One field that this family refuses."""
    no_lora: str = "cannot honour this field"
    """Why it takes no LoRA."""


FAMILIES = (
    Served(
        "tiny",
        {"negative_prompt": "blurry"},
        {"cfg_scale": 7.0, "sampler": "euler_a", "prompt_weighting": True},
        {"clip_skip": 99},
        "this model has no LoRA packs",
    ),
    Served(
        "tiny_flux",
        {},
        {"cfg_scale": 3.5, "sampler": "euler", "prompt_weighting": False},
        {"prompt": TOO_LONG},
    ),
    Served("tiny_schnell", {}, {"cfg_scale": None, "sampler": "euler"}, {"cfg_scale": 3.5}),
    Served(
        "tiny_chroma",
        {"negative_prompt": "blurry"},
        {"cfg_scale": 4.0, "sampler": "euler"},
        {"negative_prompt": TOO_LONG},
    ),
    Served(
        "tiny_zimage",
        {"prompt": "a (red:1.5) apple", "prompt_weighting": True},
        {"cfg_scale": None, "sampler": "euler"},
        {"prompt": TOO_LONG},
    ),
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.package)
def test_a_family_is_served(
    request: pytest.FixtureRequest, start: Starter, tmp_path: Path, family: Served
) -> None:
    engines: Path = request.getfixturevalue(f"{family.package}_package")
    api = start(Options(engines, tmp_path / "data", family.package)).api
    body = {"width": 64, "height": 96, "steps": 2, "seed": 7, **family.fields}
    job_id, events = api.draw_told(**body)
    assert {1, 2} <= {event.data.get("step") for event in events}
    for url in filter(None, (event.data.get("preview") for event in events)):
        assert Image.open(BytesIO(b64decode(url.partition(",")[2]))).size == (64, 96)
    job = api.job(job_id)
    assert {name: job["request"][name] for name in family.defaults} == family.defaults
    picture = Image.open(BytesIO(api.picture(job)))
    assert picture.size == (64, 96)
    assert np.asarray(picture).std() > 1
    answer = api.client.post("/api/generate", json=small(**family.refused))
    (error,) = refused(answer, 422)["errors"]
    assert error["pointer"].removeprefix("/") in family.refused
    answer = api.client.post("/api/generate", json=small(loras=[{"id": "ink"}]))
    (error,) = refused(answer, 422)["errors"]
    assert error["pointer"] == "/loras"
    assert family.no_lora in error["detail"]
