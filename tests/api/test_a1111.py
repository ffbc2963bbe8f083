"""AUTOMATIC1111's API by a client that its users have, unmodified, against a real server."""

from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
import webuiapi
from PIL import Image

from tests.api.live import Api, LiveServer

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "prompt": "a red apple"}


@pytest.fixture
def client(server: LiveServer) -> webuiapi.WebUIApi:
    return webui(server)


def webui(server: LiveServer, **options: Any) -> webuiapi.WebUIApi:
    """The client, pointed at a server as its users do."""
    return webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1", **options)


def test_a_seed_gives_the_picture_that_it_gives_by_our_own_api(
    client: webuiapi.WebUIApi, api: Api
) -> None:
    result = client.txt2img(**SMALL, seed=7, sampler_name="DPM++ 2M Karras", cfg_scale=5)
    ours = api.draw(seed=7, steps=2, sampler="dpm++_2m", schedule="karras", cfg_scale=5)
    assert b64decode(result.json["images"][0]) == ours
    assert "RNG: CPU" in result.info["infotexts"][0]
    assert result.info["all_seeds"] == [7]
    assert result.parameters["sampler_name"] == "DPM++ 2M Karras"


def test_pictures_of_one_request_have_seeds_that_follow(client: webuiapi.WebUIApi) -> None:
    together = client.txt2img(**SMALL, seed=2**32 - 2, n_iter=2, batch_size=2)
    assert together.info["all_seeds"] == [2**32 - 2, 2**32 - 1, 0, 1]
    assert len({image.tobytes() for image in together.images}) == 4
    alone = client.txt2img(**SMALL, seed=0)
    assert alone.image.tobytes() == together.images[2].tobytes()


def test_a_seed_of_minus_one_is_drawn_and_told(client: webuiapi.WebUIApi) -> None:
    drawn = client.txt2img(**SMALL, seed=-1)
    again = client.txt2img(**SMALL, seed=drawn.info["seed"])
    assert again.image.tobytes() == drawn.image.tobytes()


def test_pictures_that_are_not_sent_are_drawn_all_the_same(
    client: webuiapi.WebUIApi, api: Api
) -> None:
    result = client.txt2img(**SMALL, send_images=False, save_images=True)
    assert result.images == []
    newest = api.client.get("/api/images", params={"limit": 1}).json()["images"][0]
    assert newest["seed"] == result.info["seed"]


def test_the_progress_shows_a_picture_while_it_is_drawn(
    narrow_server: LiveServer, narrow: Api
) -> None:
    client = webui(narrow_server)
    idle = client.get_progress()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None)
    with ThreadPoolExecutor(1) as threads:
        drawing = threads.submit(client.txt2img, **LONG, prompt="a")
        seen = narrow.wait_until(lambda: (now := client.get_progress())["current_image"] and now)
        assert 0 < seen["progress"] < 1
        assert seen["eta_relative"] > 0
        assert seen["state"]["sampling_steps"] == 100
        with Image.open(BytesIO(b64decode(seen["current_image"]))) as preview:
            assert preview.size == (512, 512)
        unseen = client.custom_get("progress?skip_current_image=true", baseurl=True)
        assert unseen["current_image"] is None
        assert client.interrupt() == {}
        result = drawing.result(timeout=240)
    assert result.images == []
    assert client.get_progress()["state"]["job_count"] == 0


LONG: dict[str, Any] = {"width": 512, "height": 512, "steps": 100}
