"""The demo model's own LoRA over HTTP: the more of it, the less colour."""

import json
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from examples.demo_model.measure_lora import LORA, chroma
from tests.api.live import Api, LiveServer, Options
from tests.places import ENGINES

SIZE = {"width": 128, "height": 128}
PROMPTS = ("a red heart on a blue background", "a green car on an orange background")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with LiveServer(Options(ENGINES, tmp_path_factory.mktemp("data"), "demo")) as running:
        yield running.api


def pixels(api: Api, prompt: str, loras: list[dict[str, Any]]) -> NDArray[np.uint8]:
    picture = api.draw(prompt=prompt, seed=3, steps=20, loras=loras)
    with Image.open(BytesIO(picture)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_colour_goes_as_the_weight_rises(api: Api, prompt: str) -> None:
    found = [
        chroma(pixels(api, prompt, [{"id": LORA, "weight": weight}]))
        for weight in (0.0, 0.25, 0.5, 1.0)
    ]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.4 * found[0]


def test_weight_0_leaves_every_pixel(api: Api) -> None:
    without = pixels(api, PROMPTS[0], [])
    assert np.array_equal(pixels(api, PROMPTS[0], [{"id": LORA, "weight": 0}]), without)


def test_a_tag_in_a_prompt_of_a1111s_is_the_lora(api: Api) -> None:
    listed = [lora["name"] for lora in api.client.get("/sdapi/v1/loras").json()]
    assert listed == [LORA]
    body = {"prompt": f"{PROMPTS[0]} <lora:{LORA}:0.8>", "seed": 3, "steps": 2}
    drawn = api.client.post("/sdapi/v1/txt2img", json=body).json()
    ours = api.draw(prompt=PROMPTS[0], seed=3, steps=2, **SIZE, loras=[{"id": LORA, "weight": 0.8}])
    assert b64decode(drawn["images"][0]) == ours
    assert f"<lora:{LORA}:0.8>" in json.loads(drawn["info"])["infotexts"][0]
