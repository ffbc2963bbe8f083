"""Every refusal of `POST /api/generate`: field, value, status, message."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.live import Api, refused, small

MEBIBYTE = 1 << 20


def post(api: Api, body: object) -> httpx.Response:
    """Submit a body as it is."""
    return api.client.post("/api/generate", json=body)


def send(api: Api, content: str | bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    """Submit bytes that are declared as JSON."""
    declared = {"Content-Type": "application/json", **headers}
    return api.client.post("/api/generate", content=content, headers=declared)


Case = tuple[str, Any, str]

REFUSED: list[Case] = [
    ("prompt", None, "null is not of type string"),
    ("prompt", 5, "5 is not of type string"),
    ("prompt", "x" * 10_001, "is longer than 10000 characters"),
    ("prompt", "\ud800", "no Unicode text: a lone surrogate at position 0"),
    ("negative_prompt", "n" * 10_001, "is longer than 10000 characters"),
    ("negative_prompt", ["a"], "is not of type string, null"),
    ("width", 32, "32 is less than the minimum, 64"),
    ("width", 1056, "1056 is more than the maximum, 1024"),
    ("width", 100, "100 is no multiple of 32"),
    ("width", "64", '"64" is not of type integer'),
    ("width", True, "true is not of type integer"),
    ("seed", 64.5, "64.5 is not of type integer, null"),
    ("width", None, "null is not of type integer"),
    ("height", 0, "0 is less than the minimum, 64"),
    ("height", -64, "-64 is less than the minimum, 64"),
    ("height", 10**30, "is more than the maximum, 1024"),
    ("seed", -1, "-1 is less than the minimum, 0"),
    ("seed", 2**32, "4294967296 is more than the maximum, 4294967295"),
    ("seed", "42", '"42" is not of type integer, null'),
    ("loras", [{"id": "civitai_1963644"}], "no LoRA packs"),
    ("loras", {}, "no LoRA packs"),
    ("steps", 0, "0 is less than the minimum, 1"),
    ("steps", 101, "101 is more than the maximum, 100"),
    ("cfg_scale", 0.5, "0.5 is less than the minimum, 1"),
    ("cfg_scale", 31, "31 is more than the maximum, 30"),
    ("cfg_scale", None, "null is not of type number"),
    ("sampler", "plms", "is not one of euler, euler_a, ddim, heun, lms"),
    ("sampler", "", "is not one of euler"),
    ("schedule", "cosine", "is not one of default, karras"),
    ("clip_skip", -1, "-1 is less than the minimum, 0"),
    ("clip_skip", 100, "100 is more than the maximum"),
    ("guidance_rescale", 1.01, "1.01 is more than the maximum, 1"),
    ("guidance_interval", [0], "has fewer than 2 items"),
    ("guidance_interval", [0, 0.5, 1], "has more than 2 items"),
    ("guidance_interval", [0.8, 0.2], "ends before it begins"),
    ("prompt_weighting", 1, "1 is not of type boolean"),
    ("output_format", "gif", "is not one of png, webp, jpeg"),
    ("preview_every", -1, "-1 is less than the minimum, 0"),
    ("preview_every", 101, "101 is more than the maximum, 100"),
    ("priority", "urgent", "is not one of interactive, batch"),
    ("stpes", 20, "unknown field: perhaps steps is meant; this model takes prompt"),
    ("sampler_name", "Euler a", "unknown field: here it is called sampler"),
    ("sampler", "Euler a", 'here it is called "euler_a"'),
    ("seed", -1, "give null, or leave seed out"),
    ("Prompt", "a", "unknown field"),
    ("~/", 1, "unknown field"),
]


@pytest.mark.parametrize(
    ("field", "value", "message"), REFUSED, ids=lambda value: ascii(value)[:30]
)
def test_a_field_that_is_wrong_is_refused_by_name(
    api: Api, field: str, value: Any, message: str
) -> None:
    # Escaped, since a lone surrogate has no UTF-8.
    content = json.dumps(small(**{field: value}), ensure_ascii=True)
    problem = refused(send(api, content), 422)
    pointer = "/" + field.replace("~", "~0").replace("/", "~1")
    [error] = [error for error in problem["errors"] if error["pointer"] == pointer]
    assert message in error["detail"]
    assert message in problem["detail"]


def test_a_sampler_and_a_schedule_that_do_not_go_together_are_refused(api: Api) -> None:
    problem = refused(post(api, small(sampler="ddim", schedule="karras")), 422)
    assert "ddim" in problem["detail"]
    assert "karras" in problem["detail"]


def test_every_fault_is_told_at_once(api: Api) -> None:
    body = {"width": 1, "steps": "20", "sampler": "plms", "colour": "red"}
    problem = refused(post(api, body), 422)
    pointers = {error["pointer"] for error in problem["errors"]}
    assert pointers == {"/prompt", "/width", "/steps", "/sampler", "/colour"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"loras": [0] * 200_000},
        {"guidance_interval": ["x"] * 200_000},
        {f"unknown_{number}": 0 for number in range(50_000)},
        {"loras": ["\ud800"] * 100_000},
    ],
    ids=["items", "numbers", "fields", "surrogates"],
)
def test_faults_beyond_number_are_told_in_part(api: Api, wrong: dict[str, object]) -> None:
    """A small body must not be answered with a large one."""
    content = json.dumps(small(**wrong), ensure_ascii=True)
    answer = send(api, content)
    assert 1 <= len(refused(answer, 422)["errors"]) <= 100
    assert len(answer.content) < len(content)


def test_a_prompt_is_required(api: Api) -> None:
    problem = refused(post(api, {}), 422)
    assert problem["errors"] == [{"pointer": "/prompt", "detail": "missing, and required"}]


@pytest.mark.parametrize("content", ["[]", '"a prompt"', "5", "null", "true", '[{"prompt": "a"}]'])
def test_a_body_that_is_no_object_is_refused(api: Api, content: str) -> None:
    problem = refused(send(api, content), 422)
    assert problem["errors"][0]["pointer"] == ""
    assert "is not of type object" in problem["detail"]


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "1" + "0" * 5000, "-1" + "0" * 5000, "64.0000001"]
)
@pytest.mark.parametrize("field", ["width", "seed", "cfg_scale", "guidance_rescale"])
def test_a_number_beyond_all_bounds_is_refused_by_name(api: Api, field: str, number: str) -> None:
    text = json.dumps(small()).removesuffix("}") + f', "{field}": {number}}}'
    answer = send(api, text)
    problem = refused(answer, 422)
    assert {error["pointer"] for error in problem["errors"]} == {f"/{field}"}


NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "words": b"a red apple",
    "half": b'{"prompt": "a',
    "two": b'{"prompt": "a"} {}',
    "comments": b'{"prompt": "a" /* red */}',
    "trailing comma": b'{"prompt": "a",}',
    "single quotes": b"{'prompt': 'a'}",
    "NaN": b'{"prompt": "a", "cfg_scale": NaN}',
    "Infinity": b'{"prompt": "a", "cfg_scale": Infinity}',
    "-Infinity": b'{"prompt": "a", "cfg_scale": -Infinity}',
    "no UTF-8": b'{"prompt": "\xff\xfe"}',
    "a control character": b'{"prompt": "\x00"}',
    "a leading zero": b'{"prompt": "a", "seed": 042}',
    "a form": b"prompt=a+red+apple",
    "deep arrays": b"[" * 500_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_a_body_that_is_no_json_is_a_400(api: Api, content: bytes) -> None:
    refused(send(api, content), 400)


@pytest.mark.parametrize("depth", [50, 300, 900, 990, 5000])
def test_nesting_is_refused_at_any_depth(api: Api, depth: int) -> None:
    content = b'{"prompt": ' + b"[" * depth + b"]" * depth + b"}"
    answer = send(api, content)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_over_a_mebibyte_is_a_413_however_it_is_sent(api: Api) -> None:
    body = json.dumps({"prompt": "x" * (2 * MEBIBYTE)}).encode()

    def in_chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for content in (body, in_chunks()):
        problem = refused(send(api, content), 413)
        assert str(MEBIBYTE) in problem["detail"]
    padded = json.dumps({"prompt": "x" * 20_000}).encode()
    filled = padded + b" " * (MEBIBYTE - len(padded))
    refused(send(api, filled), 422)
    refused(send(api, filled + b" "), 413)


def test_a_mark_of_byte_order_before_the_body_is_passed_over(api: Api) -> None:
    """.NET's encoders and some editors write one."""
    assert send(api, b"\xef\xbb\xbf" + json.dumps(small()).encode()).status_code == 202


def test_a_name_that_stands_twice_is_refused_where_it_stands(api: Api) -> None:
    twice = '{"prompt": "a", "seed": 1, "seed": 2, "guidance_interval": [{"a": 1, "a": 1}]}'
    problem = refused(send(api, twice), 422)
    details = {error["pointer"]: error["detail"] for error in problem["errors"]}
    for pointer in ("/seed", "/guidance_interval/0/a"):
        assert "stands twice" in details[pointer]
    many = "{" + ",".join(f'"{number}":0,"{number}":1' for number in range(45_000)) + "}"
    assert len(refused(send(api, many), 422)["errors"]) == 100


def test_text_is_taken_as_it_is(api: Api) -> None:
    prompt = "\u0000 \u001b[31m 名前 👩‍👩‍👧 \u202e" + "é" * 5000
    assert api.finish(api.submit(prompt=prompt, steps=1))["request"]["prompt"] == prompt
