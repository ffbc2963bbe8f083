"""OpenAI's Images API by the unmodified client of PyPI, sync and async, over a real server."""

import asyncio
import base64
import json
import socket
from argparse import ArgumentParser
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from api.commands.settings_flags import add_settings_flags, settings_flags
from api.keys import KeyFile, Scope
from api.settings import flag, read_settings
from tests.api.live import PATIENCE, LiveServer, Options
from tests.api.paper import paper_document
from tests.places import ENGINES

PROMPT = "a red heart on a blue background"
CANCELED = 'calotype_jobs_ended_total{status="canceled"}'
SUBMITTED = "calotype_jobs_submitted_total"
QUICK: dict[str, Any] = {"steps": 4}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key of each scope, and the folder that they are in."""
    data = tmp_path_factory.mktemp("openai")
    file = KeyFile(data)
    return {"data": str(data), **{scope.word: file.create(scope.word, scope) for scope in Scope}}


@pytest.fixture(scope="module")
def live(keys: dict[str, str]) -> Iterator[LiveServer]:
    """The demo model for callers with a key; three jobs may wait."""
    flags = ("--keys", "--max-batch", "1", "--queue-limit", "3", "--cancel-on-disconnect")
    with LiveServer(Options(ENGINES, Path(keys["data"]), "demo", flags)) as running:
        running.api.client.headers["Authorization"] = f"Bearer {keys['generate']}"
        yield running


@pytest.fixture
def client(live: LiveServer, keys: dict[str, str]) -> Iterator[OpenAI]:
    with client_with(live, keys["generate"]) as opened:
        yield opened


def client_with(live: LiveServer, key: str) -> OpenAI:
    """The client as one opens it, but for its second and third tries."""
    return OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0)


def opened(b64_json: str | None) -> Image.Image:
    """The picture in an answer."""
    assert b64_json is not None
    return Image.open(BytesIO(base64.b64decode(b64_json)))


def test_pictures_are_those_of_our_own_requests(live: LiveServer, client: OpenAI) -> None:
    answer = client.images.generate(
        model="demo",
        prompt=PROMPT,
        n=2,
        size="96x128",
        quality="high",
        background="opaque",
        user="me",
        extra_body={**QUICK, "seed": 2**32 - 1},
    )
    assert answer.data is not None
    assert (answer.size, answer.output_format, answer.background) == ("96x128", "png", "opaque")
    assert answer.usage is not None
    tokens = answer.usage.input_tokens_details.text_tokens
    # Seven words, between the begin and the end.
    assert answer.usage.input_tokens == answer.usage.total_tokens == tokens
    assert tokens >= 9
    for data, seed in zip(answer.data, (2**32 - 1, 0), strict=True):
        assert data.b64_json is not None
        own = live.api.client.post(
            "/api/generate",
            json={"prompt": PROMPT, "seed": seed, "width": 96, "height": 128, **QUICK},
            headers={"Prefer": "wait=60"},
        ).json()
        ours, theirs = (
            Image.open(BytesIO(each))
            for each in (live.api.picture(own), base64.b64decode(data.b64_json))
        )
        assert ours.size == (96, 128)
        assert ours.tobytes() == theirs.tobytes()


def test_an_address_leads_to_the_picture(
    live: LiveServer, client: OpenAI, keys: dict[str, str]
) -> None:
    answer = client.images.generate(
        prompt=PROMPT, response_format="url", output_format="webp", size="auto", extra_body=QUICK
    )
    assert answer.data is not None
    [data] = answer.data
    assert data.b64_json is None
    assert data.url is not None
    assert data.url.startswith(live.url)
    got = httpx.get(data.url, headers={"Authorization": f"Bearer {keys['read']}"})
    with Image.open(BytesIO(got.content)) as image:
        assert (image.format, image.size) == ("WEBP", (128, 128))


def test_both_are_sent_to_a_client_that_did_not_choose(
    client: OpenAI, keys: dict[str, str]
) -> None:
    answer = client.images.generate(prompt=PROMPT, extra_body=QUICK)
    assert answer.data is not None
    [data] = answer.data
    got = httpx.get(data.url or "", headers={"Authorization": f"Bearer {keys['read']}"})
    assert base64.b64encode(got.content).decode() == data.b64_json
    answer = client.images.generate(
        prompt=PROMPT, response_format="b64_json", n=2, extra_body=QUICK
    )
    assert [(each.url, bool(each.b64_json)) for each in answer.data or ()] == [(None, True)] * 2


def test_a_stream_shows_partial_images_then_each_picture(client: OpenAI) -> None:
    stream = client.images.generate(
        prompt=PROMPT,
        n=2,
        size="160x160",
        stream=True,
        partial_images=2,
        # On a busy machine previews fall behind: these have long to come.
        extra_body={"steps": 60, "seed": 5},
    )
    events = list(stream)
    partial = [each for each in events if isinstance(each, ImageGenPartialImageEvent)]
    completed = [each for each in events if isinstance(each, ImageGenCompletedEvent)]
    assert len(partial) + len(completed) == len(events)
    assert len(completed) == 2
    assert events[-1] in completed
    assert partial
    assert {each.partial_image_index for each in partial} <= {0, 1}
    for each in partial:
        assert (opened(each.b64_json).format, each.output_format) == ("JPEG", "jpeg")
    assert all(opened(each.b64_json).format == "PNG" for each in completed)
    assert len({each.b64_json for each in completed}) == 2
    assert completed[0].usage.input_tokens > 0


def test_a_stream_without_partial_images_is_one_event(client: OpenAI) -> None:
    [event] = client.images.generate(prompt=PROMPT, stream=True, extra_body=QUICK)
    assert isinstance(event, ImageGenCompletedEvent)


def test_the_async_client_gets_pictures_streams_and_models(
    live: LiveServer, keys: dict[str, str]
) -> None:
    async def check() -> None:
        async with AsyncOpenAI(base_url=f"{live.url}/v1", api_key=keys["generate"]) as client:
            answer = await client.images.generate(prompt=PROMPT, extra_body=QUICK)
            assert answer.data is not None
            assert opened(answer.data[0].b64_json).size == (128, 128)
            stream = await client.images.generate(
                prompt=PROMPT, stream=True, partial_images=2, extra_body=QUICK
            )
            last = [event async for event in stream][-1]
            assert isinstance(last, ImageGenCompletedEvent)
            assert [model.id async for model in client.models.list()] == ["demo"]

    asyncio.run(check())


def test_a_lora_comes_by_the_extra_body(client: OpenAI) -> None:
    def drawn(**fields: Any) -> bytes:
        answer = client.images.generate(prompt=PROMPT, extra_body={"seed": 1, **QUICK, **fields})
        assert answer.data is not None
        return opened(answer.data[0].b64_json).tobytes()

    assert drawn() != drawn(loras=[{"id": "monochrome", "weight": 1}])


def test_the_models_are_the_one_that_is_served(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-image-2")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


ERRORS: list[tuple[dict[str, Any], type[openai.APIStatusError], str | None, str]] = [
    ({"size": "100x128"}, openai.BadRequestError, "size", "no multiple of"),
    ({"size": "8192x128"}, openai.BadRequestError, "size", "more than the maximum"),
    ({"size": "large"}, openai.BadRequestError, "size", "large"),
    ({"n": 11}, openai.BadRequestError, "n", "more than the maximum, 10"),
    ({"n": 4}, openai.InternalServerError, None, "the queue takes 3 and these are 4"),
    ({"model": "gpt-image-2"}, openai.NotFoundError, "model", "'demo' is"),
    ({"background": "transparent"}, openai.BadRequestError, "background", "is not one of"),
    ({"output_format": "svg"}, openai.BadRequestError, "output_format", "is not one of"),
    ({"output_compression": 50}, openai.BadRequestError, "output_compression", "50"),
    ({"stream": True, "partial_images": 4}, openai.BadRequestError, "partial_images", "4"),
    ({"stream": True, "response_format": "url"}, openai.BadRequestError, "response_format", "b64"),
    ({"extra_body": {"loras": [{"id": "x"}]}}, openai.BadRequestError, "loras.0.id", "x"),
    ({"extra_body": {"stpes": 3}}, openai.BadRequestError, "stpes", "perhaps steps"),
    ({"prompt": "x" * 2**20}, openai.APIStatusError, None, "at most 1048576"),
]


@pytest.mark.parametrize(("fields", "kind", "param", "message"), ERRORS)
def test_a_request_that_is_wrong_is_the_exception_that_the_client_has_for_it(
    client: OpenAI,
    fields: dict[str, Any],
    kind: type[openai.APIStatusError],
    param: str | None,
    message: str,
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(**{"prompt": PROMPT, **fields})
    assert caught.value.param == param
    assert caught.value.type == (
        "server_error" if caught.value.status_code >= 500 else "invalid_request_error"
    )
    assert message in str(caught.value)
    assert caught.value.response.headers["content-type"] == "application/json"
    # What passes by itself says when.
    assert ("retry-after" in caught.value.response.headers) == (caught.value.status_code == 503)


def test_a_wrong_key_and_one_without_the_right_are_told_apart(
    live: LiveServer, keys: dict[str, str]
) -> None:
    with (
        client_with(live, "sk-none-of-ours") as client,
        pytest.raises(openai.AuthenticationError) as wrong,
    ):
        client.images.generate(prompt=PROMPT)
    assert wrong.value.code == "invalid_api_key"
    with client_with(live, keys["read"]) as client:
        assert client.models.retrieve("demo").id == "demo"
        with pytest.raises(openai.PermissionDeniedError, match="takes generate"):
            client.images.generate(prompt=PROMPT)


def test_a_caller_that_hangs_up_takes_its_jobs_with_it_by_setting(
    live: LiveServer, client: OpenAI
) -> None:
    before, submitted = counted(live, CANCELED), counted(live, SUBMITTED)
    stream = client.images.generate(
        prompt=PROMPT,
        n=3,
        size="160x160",
        stream=True,
        partial_images=3,
        extra_body={"steps": 100, "seed": 77},
    )
    live.api.wait_until(lambda: counted(live, SUBMITTED) == submitted + 3)
    stream.close()

    live.api.wait_until(lambda: counted(live, CANCELED) == before + 3)


def test_so_does_one_that_waits_without_a_stream(live: LiveServer, keys: dict[str, str]) -> None:
    canceled, submitted = counted(live, CANCELED), counted(live, SUBMITTED)
    body = json.dumps({"prompt": PROMPT, "n": 3, "size": "160x160", "steps": 100}).encode()
    head = (
        "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {keys['generate']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    host, _, port = live.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(head.encode() + body)
        live.api.wait_until(lambda: counted(live, SUBMITTED) == submitted + 3)
    live.api.wait_until(lambda: counted(live, CANCELED) > canceled)


def counted(live: LiveServer, metric: str) -> float:
    """The value of a metric, 0 before it has one."""
    lines = live.api.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(metric))


def test_an_address_that_is_none_is_told_in_its_form(live: LiveServer) -> None:
    answer = live.api.client.get("/v1/embeddings")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert live.api.client.head("/v1/models").status_code == 200
    assert live.api.client.head("/v1/models/none").headers["content-type"] == "application/json"


def test_a_name_that_stands_twice_is_refused_there_too(live: LiveServer) -> None:
    answer = live.api.client.post(
        "/v1/images/generations",
        content='{"prompt": "a", "n": 1, "n": 2}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "n"
    assert "stands twice" in answer.json()["error"]["message"]


def test_a_switch_turns_the_dialect_off() -> None:
    on, off = read_settings({}), read_settings({"openai_api": "false"})
    assert (on.dialects.openai, off.dialects.openai) == (True, False)
    assert flag("openai_api") == "--no-openai-api"
    parser = ArgumentParser()
    add_settings_flags(parser)
    assert settings_flags(parser.parse_args(["--no-openai-api"])) == {"openai_api": "false"}
    document = paper_document(off.dialects)
    assert not [path for path in document["paths"] if path.startswith("/v1/")]
    assert "ImagesRequest" not in document["components"]["schemas"]


def test_the_body_of_open_webui_is_drawn(live: LiveServer, keys: dict[str, str]) -> None:
    """open-webui/open-webui, backend/open_webui/routers/images.py, `image_generations`: the engine
    "openai" with IMAGES_OPENAI_API_PARAMS of an administrator. It fetches an address where the
    answer has one, and not from this machine: it has to be told none.
    """
    sent = {
        "model": "demo",
        "prompt": PROMPT,
        "n": 1,
        "size": "128x128",
        "response_format": "b64_json",
        "steps": 4,
    }
    headers = {"Authorization": f"Bearer {keys['generate']}"}
    answer = live.api.client.post("/v1/images/generations", json=sent, headers=headers)
    [picture] = answer.json()["data"]
    assert set(picture) == {"b64_json"}
    assert opened(picture["b64_json"]).size == (128, 128)
