"""A wrong request in the words of each dialect: our own, and by the unmodified clients of two."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import requests
import webuiapi
from openai import OpenAI
from requests.adapters import HTTPAdapter

from tests.api.error_table import Asked, Refusal
from tests.api.live import PATIENCE

UNFINISHED = ("queued", "processing")
BODY: Mapping[str, Any] = {"prompt": "a red apple", "steps": 2}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was no picture."""

    status: int
    headers: Mapping[str, str]
    content: Any
    raised: Exception | None = None


def by_our_own(url: str, keys: Mapping[str, str], asked: Asked) -> Answer:
    """`/api/generate`, waited for."""
    body = {**BODY, "width": 64, "height": 64, **asked.fields}
    answer = httpx.post(
        f"{url}/api/generate",
        content=json.dumps(body).encode() if asked.content is None else asked.content,
        headers={
            "Authorization": f"Bearer {keys[asked.key]}",
            "Content-Type": asked.content_type or "application/json",
            "Prefer": "wait=60",
        },
        timeout=PATIENCE,
    )
    return Answer(answer.status_code, answer.headers, answer.json())


class _OtherBody(httpx.HTTPTransport):
    """Sends what the test wants in place of what the client wrote."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request."""
        content = request.read() if self._asked.content is None else self._asked.content
        headers = dict(request.headers)
        del headers["content-length"]
        if self._asked.content_type:
            headers["content-type"] = self._asked.content_type
        changed = httpx.Request(request.method, request.url, headers=headers, content=content)
        return super().handle_request(changed)


def by_openai(url: str, keys: Mapping[str, str], asked: Asked) -> Answer:
    """OpenAI's client."""
    http = httpx.Client(transport=_OtherBody(asked), timeout=PATIENCE)
    fields = {**BODY, "size": "64x64", **asked.fields}
    if {"width", "height"} <= fields.keys():
        fields["size"] = f"{fields.pop('width')}x{fields.pop('height')}"
    prompt = fields.pop("prompt")
    with OpenAI(
        base_url=f"{url}/v1", api_key=keys[asked.key], max_retries=0, http_client=http
    ) as client:
        try:
            client.images.generate(prompt=prompt, extra_body=fields)
        except openai.APIStatusError as error:
            response = error.response
            return Answer(response.status_code, response.headers, response.json(), error)
    raise AssertionError("a picture was drawn")


class _OtherBodyToo(HTTPAdapter):
    """As `_OtherBody`, for the library that webuiapi uses; keeps the last answer."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked
        self.answer = requests.Response()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        """Send the request."""
        if self._asked.content is not None:
            request.prepare_body(self._asked.content, None)
        if self._asked.content_type:
            request.headers["Content-Type"] = self._asked.content_type
        self.answer = super().send(request, *args, **options)
        return self.answer


def by_webuiapi(url: str, keys: Mapping[str, str], asked: Asked) -> Answer:
    """The client of AUTOMATIC1111's users."""
    client = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", username="me", password=keys[asked.key])
    adapter = _OtherBodyToo(asked)
    client.session.mount("http://", adapter)
    fields = {**BODY, "width": 64, "height": 64, **asked.fields}
    if "model" in fields:
        fields["override_settings"] = {"sd_model_checkpoint": fields.pop("model")}
    try:
        client.txt2img(**fields)
    except RuntimeError as error:
        answer = adapter.answer
        return Answer(answer.status_code, answer.headers, answer.json(), error)
    raise AssertionError("a picture was drawn")


def is_ours(answer: Answer, refusal: Refusal) -> None:
    """The answer of `/api` is the one in the table."""
    assert answer.status == refusal.ours, answer
    if answer.status < 400:
        assert answer.content["status"] in (["failed"] if answer.status == 200 else UNFINISHED)
        return
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.content["status"] == answer.status
    assert answer.content["detail"]


def is_openais(answer: Answer, refusal: Refusal) -> None:
    """The answer of `/v1` is the one in the table, and so is the exception."""
    assert type(answer.raised) is refusal.exception, answer
    assert answer.status == refusal.openai
    error = answer.content["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == (refusal.kind, refusal.code)
    assert error["message"]


def is_a1111s(answer: Answer, refusal: Refusal) -> None:
    """The answer of `/sdapi` is the one in the table, and the exception tells it."""
    assert answer.status == refusal.a1111, answer
    assert isinstance(answer.raised, RuntimeError)
    assert answer.raised.args[0] == answer.status
    assert set(answer.content) == {"error", "detail", "body", "errors"}
    assert answer.content["detail"]


DIALECTS: Mapping[str, tuple[Callable[..., Answer], Callable[[Answer, Refusal], None]]] = {
    "ours": (by_our_own, is_ours),
    "openai": (by_openai, is_openais),
    "a1111": (by_webuiapi, is_a1111s),
}
"""By name: how a dialect asks, and what looks at its answer."""
