"""Any body of any dialect, and any picture, is answered; never by a 500."""

import asyncio
import io
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from random import Random

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runtime.draw.recipe import EXTENSIONS
from runtime.exif import exif_block
from runtime.plan.model import open_model
from tests.api.paper import paper_app
from tests.hostile import hostile_bytes, hostile_json, odd_text
from tests.inputs import Inputs
from tests.places import ENGINES

READY = 503
"""A body that is in order: there is no worker that could draw it."""

BODIES = {
    "/api/generate": {
        "prompt": "a (red:1.2) apple",
        "n": 2,
        "seed": 5,
        "sampler": "dpm++_2m",
        "schedule": "karras",
        "guidance_interval": [0, 0.5],
        "loras": [{"id": "monochrome", "weight": 0.5}],
    },
    "/v1/images/generations": {
        "prompt": "a red apple",
        "model": "demo",
        "n": 2,
        "size": "96x128",
        "response_format": "b64_json",
        "output_format": "webp",
        "partial_images": 2,
        "stream": True,
        "quality": "high",
        "user": "me",
        "loras": [{"id": "monochrome"}],
    },
    "/sdapi/v1/txt2img": {
        "prompt": "a red apple <lora:monochrome:0.5>",
        "negative_prompt": "blurry",
        "seed": -1,
        "steps": 2,
        "width": 96,
        "height": 128,
        "sampler_name": "DPM++ 2M Karras",
        "batch_size": 2,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "alwayson_scripts": {},
        "send_images": True,
    },
    "/sdapi/v1/options": {"sd_model_checkpoint": "demo", "sd_vae": "Automatic"},
}
PIXELS = np.zeros((8, 8, 3), np.uint8)
INFOTEXT = (
    'a cat\nNegative prompt: "b"\nSteps: 20, Sampler: Euler a, Size: 8x8, Note: "\\u00e4, \\"q\\""'
)

Post = Callable[[str, bytes], Awaitable[httpx.Response]]


def check(tries: Callable[[Post], Awaitable[None]]) -> None:
    """Run what asks the app of the demo, over no socket."""

    async def run() -> None:
        app = paper_app(open_model(ENGINES, "demo"))
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def post(path: str, body: bytes) -> httpx.Response:
                headers = {"Content-Type": "application/json"}
                answer = await client.post(path, content=body, headers=headers)
                assert answer.status_code < 500 or "retry-after" in answer.headers, answer.text
                assert isinstance(answer.json(), dict)
                return answer

            await tries(post)

    asyncio.run(run())


@pytest.mark.fuzz
@pytest.mark.parametrize("path", BODIES)
def test_any_body(path: str, inputs: Inputs) -> None:
    sound = json.dumps(BODIES[path])

    async def tries(post: Post) -> None:
        assert (await post(path, sound.encode())).status_code in (200, READY)
        for chance in inputs:
            text = hostile_json(chance, sound)
            await post(path, text.encode("utf-8", "surrogatepass"))

    check(tries)


@pytest.mark.fuzz
@pytest.mark.parametrize("output_format", EXTENSIONS)
def test_any_picture(output_format: str, inputs: Inputs) -> None:
    """The file's bytes are changed, or the text within a file that is sound, or the base64."""

    async def tries(post: Post) -> None:
        sound = picture(output_format, INFOTEXT)
        answer = await info_of(post, b64encode(sound).decode())
        assert answer.json()["parameters"]["Note"] == 'ä, "q"'
        for chance in inputs:
            content = sound
            if chance.randrange(2):
                content = picture(output_format, hostile_text(chance))
            elif chance.randrange(4):
                content = hostile_bytes(chance, sound)
            encoded = b64encode(content).decode()
            if not chance.randrange(8):
                encoded = hostile_bytes(chance, encoded.encode()).decode("latin-1")
            await info_of(post, encoded)

    check(tries)


async def info_of(post: Post, image: str) -> httpx.Response:
    """The text that png-info finds in a picture in base64."""
    answer = await post("/sdapi/v1/png-info", json.dumps({"image": image}).encode())
    assert answer.status_code in (200, 422), answer.text
    return answer


def picture(output_format: str, text: str) -> bytes:
    """A small picture with this text where that format has its recipe."""
    file = io.BytesIO()
    image = Image.fromarray(PIXELS)
    if output_format == "png":
        told = PngInfo()
        told.add_itxt("parameters", text)
        image.save(file, "png", pnginfo=told)
    else:
        image.save(file, output_format, exif=exif_block(None, text))
    return file.getvalue()


def hostile_text(chance: Random) -> str:
    """A recipe of another kind: its bytes changed, or its values odd."""
    if chance.randrange(2):
        changed = hostile_bytes(chance, INFOTEXT.encode())
        return changed.decode("utf-8", "replace")
    quoted, size = json.dumps(odd_text(chance, 20)), chance.randrange(9)
    text = f"{odd_text(chance, 9)}\nSteps: 1, Seed: 2, Note: {quoted}, Size: {size}x8"
    return text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("run", ["a", " ", "a ", "- ", "a: ", 'ab: "', 'ab: "\\', "ab: ,", "猫"])
def test_a_long_text_of_one_kind_is_read(run: str) -> None:
    """A megabyte, as much as a chunk may hold. A reader that tries every place of a run anew takes
    hours, and all other threads wait for it meanwhile.
    """
    text = f"a cat\nSteps: 20, Seed: 7, Size: 8x8, {run * (900_000 // len(run.encode()))}"

    async def tries(post: Post) -> None:
        answer = await info_of(post, b64encode(picture("png", text)).decode())
        assert answer.json()["parameters"]["Seed"] == "7"

    check(tries)
