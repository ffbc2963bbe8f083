"""Facts for Schemathesis that the OpenAPI document cannot state; its command loads this module.

A request may be right by its schema and still be refused for how its fields go together, or take
minutes to draw. Such bodies are changed into near neighbours; every other one is sent as it is.
"""

import re
from typing import Any
from uuid import uuid4

import schemathesis

from api.a1111.names import identifier
from api.openai.translation import SIZE
from runtime.jobs.names import read_cursor

KEY = "Idempotency-Key"
SCHEDULES = {"automatic", "normal", "uniform", "ddim", "karras", "sgm_uniform"}

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Changes a case before it is sent."""
    if case.operation.path == "/api/images":
        _drop_strange_cursor(case.query)
    if case.operation.path == "/sdapi/v1/txt2img" and isinstance(case.body, dict):
        _draw_quickly(case.body)
        _mean_one_thing(case.body)
    if case.operation.path == "/sdapi/v1/png-info" and isinstance(case.body, dict):
        _send_a_picture(case.body)
    if case.operation.path == "/v1/images/generations" and isinstance(case.body, dict):
        _agree_there(case.body)
        _draw_quickly(case.body)
        _agree(case.body)
    if case.operation.path != "/api/generate":
        return
    key = (case.headers or {}).get(KEY)
    if key is not None and 1 <= len(key) <= 255:
        # The same key for another body is a 422, rightly; it is shown elsewhere.
        case.headers[KEY] = uuid4().hex
    if isinstance(case.body, dict):
        _draw_quickly(case.body)
        _agree(case.body)


def _mean_one_thing(body: dict[str, Any]) -> None:
    """One picture, and no two fields that say the same."""
    for name in ("n_iter", "batch_size"):
        if _is_integer(body.get(name)) and 1 < body[name] <= 10:
            body[name] = 1
    if body.get("override_settings") and body.get("clip_skip"):
        body["clip_skip"] = None
    # Not every sampler has every schedule.
    if identifier(str(body.get("scheduler"))) in SCHEDULES:
        body["scheduler"] = None
    if _is_number(body.get("eta")) and 0 <= body["eta"] <= 1:
        body["eta"] = None


def _send_a_picture(body: dict[str, Any]) -> None:
    """No schema can tell a picture in base64 from another text."""
    if isinstance(body.get("image"), str):
        body["image"] = PICTURE


def _drop_strange_cursor(query: dict[str, Any] | None) -> None:
    """A cursor is opaque: only those that a page gave are right, and no schema can tell them."""
    cursor = (query or {}).get("cursor")
    try:
        read_cursor(str(cursor))
    except ValueError:
        (query or {}).pop("cursor", None)


def _draw_quickly(body: dict[str, Any]) -> None:
    """Right numbers of steps and right sizes become small ones."""
    steps = body.setdefault("steps", 1)
    if _is_integer(steps) and 3 < steps <= 100:
        body["steps"] = 1 + steps % 3
    for side in ("width", "height"):
        size = body.get(side)
        if _is_integer(size) and size % 32 == 0 and 128 < size <= 1024:
            body[side] = 64 + size % 96


def _agree_there(body: dict[str, Any]) -> None:
    """A model is the one that is served, a size one that it draws, and a stream holds pictures."""
    if isinstance(body.get("model"), str):
        body["model"] = "tiny"
    if re.fullmatch(SIZE, str(body.get("size"))):
        body["size"] = "64x64"
    if body.get("stream") is True and body.get("response_format") == "url":
        del body["response_format"]


def _agree(body: dict[str, Any]) -> None:
    """A schedule is one that every sampler has; an interval ends after it begins."""
    if body.get("schedule") == "karras":
        body["schedule"] = "default"
    interval = body.get("guidance_interval")
    if isinstance(interval, list) and all(map(_is_number, interval)):
        interval.sort()


def _is_integer(value: Any) -> bool:
    """As JSON Schema has it: 5.0 is one, true is none."""
    return _is_number(value) and float(value).is_integer()


def _is_number(value: object) -> bool:
    """One that a right body may hold, so neither true nor infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**32
