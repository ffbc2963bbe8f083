"""Submitting over HTTP: the guide's examples, what callers may ask for, and every refusal."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from api.examples import GUIDE
from runtime.recipe import read_recipe
from tests.api.live import Api, small

MEBIBYTE = 1 << 20


def post(api: Api, body: object, **headers: str) -> httpx.Response:
    """Submit a body as it is."""
    return api.client.post("/api/generate", json=body, headers=headers)


# The guide ------------------------------------------------------------------------------------


def test_the_guides_illustration_works_as_written(api: Api, tmp_path: Path) -> None:
    body = GUIDE["An illustration, in tags"]
    answer = post(api, body)
    assert answer.status_code == 202
    accepted = answer.json()
    assert set(accepted) == {"job_id", "status", "queue_position", "job_url", "events_url"}
    assert answer.headers["location"] == accepted["job_url"]
    assert accepted["events_url"] == f"/api/sse/{accepted['job_id']}"
    job = api.finish(accepted["job_id"])
    assert {**job["request"], **body} == job["request"]
    picture = tmp_path / "picture.png"
    picture.write_bytes(api.picture(job))
    with Image.open(picture) as image:
        assert image.size == (1024, 1024)
    assert read_recipe(picture) == job["request"]


def test_the_guides_lora_is_refused_by_name_where_the_model_has_none(api: Api) -> None:
    assert api.client.get("/api/info").json()["loras"] == []
    answer = post(api, GUIDE["With a LoRA"])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/loras"
    assert "no LoRA packs" in answer.json()["detail"]


@pytest.mark.parametrize("title", [title for title in GUIDE if title.endswith("in plain words")])
def test_the_guides_plain_prompts_are_taken_as_written(api: Api, title: str) -> None:
    """They were written for other models; how one is drawn at this size is shown above."""
    job_id = post(api, GUIDE[title]).json()["job_id"]
    request = api.cancel(job_id).json()["request"]
    assert {**request, **GUIDE[title]} == request


# What callers may ask for ---------------------------------------------------------------------


def test_ten_clients_at_once_each_get_the_picture_that_they_get_alone(api: Api) -> None:
    bodies: list[dict[str, object]] = [
        {"prompt": "a red apple", "seed": 1},
        {"prompt": "a red apple", "seed": 2, "sampler": "heun"},
        {"prompt": "two small cats sleeping under a blue blanket", "seed": 3, "steps": 5},
        {"prompt": "a mountain lake", "seed": 4, "cfg_scale": 1},
        {"prompt": "a mountain lake", "seed": 5, "negative_prompt": "blurry"},
        {"prompt": "a (green:1.3) bicycle", "seed": 6, "sampler": "dpm++_2m_sde"},
        {"prompt": "rain", "seed": 7, "width": 96},
        {"prompt": "rain", "seed": 8, "sampler": "dpm++_sde", "steps": 4},
        {"prompt": "rain " * 90, "seed": 9},
        {"prompt": "", "seed": 10, "guidance_rescale": 0.7},
    ]
    alone = [api.draw(**{"steps": 3, **body}) for body in bodies]
    assert len(set(alone)) == len(bodies)
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(lambda body: draw_apart(api, {"steps": 3, **body}), bodies))
    assert together == alone


def draw_apart(api: Api, body: dict[str, object]) -> bytes:
    """Draw over a client of its own."""
    apart = Api(str(api.client.base_url))
    with apart.client:
        return apart.draw(**body)


def test_waiting_is_answered_with_the_job_when_it_ends_in_time(api: Api) -> None:
    answer = post(api, small(), Prefer="wait=60")
    assert answer.status_code == 200
    job = answer.json()
    assert job["status"] == "completed"
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.headers["location"] == f"/api/jobs/{job['job_id']}"
    assert job == api.job(job["job_id"])


def test_waiting_is_answered_with_the_acceptance_when_time_is_over(narrow: Api) -> None:
    blocker = narrow.submit(steps=100, width=512, height=512)
    answer = post(narrow, small(), Prefer="wait=1")
    narrow.cancel(blocker)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.json()["status"] == "queued"
    assert narrow.finish(answer.json()["job_id"])["status"] == "completed"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=61", "wait=-1", "wait", "respond-async", "é"])
def test_a_preference_that_cannot_be_honoured_is_passed_over(api: Api, prefer: str) -> None:
    answer = api.client.post(
        "/api/generate", json=small(), headers={"Prefer": prefer.encode("latin-1")}
    )
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_a_key_makes_one_job_of_a_request_that_is_sent_again(api: Api) -> None:
    body = small(prompt="once", seed=None)
    first = post(api, body, **{"Idempotency-Key": "once"})
    assert first.status_code == 202
    job = api.finish(first.json()["job_id"])
    reordered = dict(reversed({**body, "steps": 2.0}.items()))
    for again in (body, reordered):
        answer = post(api, again, **{"Idempotency-Key": "once"})
        assert answer.status_code == 202
        assert answer.json()["job_id"] == job["job_id"]
        assert answer.json()["status"] == "completed"
    other = post(api, body, **{"Idempotency-Key": "another"})
    assert other.json()["job_id"] != job["job_id"]


def test_a_key_that_was_used_for_another_body_is_refused(api: Api) -> None:
    assert post(api, small(), **{"Idempotency-Key": "taken"}).status_code == 202
    answer = post(api, small(steps=1), **{"Idempotency-Key": "taken"})
    [error] = refused(answer, 422)["errors"]
    assert error["pointer"] == "/Idempotency-Key"
    assert "another body" in error["detail"]


def test_a_key_that_is_sent_by_ten_at_once_makes_one_job(api: Api) -> None:
    def send(_: int) -> str:
        with httpx.Client(base_url=api.client.base_url, timeout=api.client.timeout) as client:
            headers = {"Idempotency-Key": "all at once"}
            answer = client.post("/api/generate", json=small(), headers=headers)
        assert answer.status_code == 202
        job_id: str = answer.json()["job_id"]
        return job_id

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(send, range(10)))) == 1


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_no_key_is_refused(api: Api, key: str) -> None:
    answer = post(api, small(), **{"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/Idempotency-Key"


def test_a_full_queue_is_a_503_and_loses_nothing(narrow: Api) -> None:
    blocker = narrow.submit(steps=100)
    with narrow.follow(blocker) as events:
        next(event for event in events if event.status == "processing")
    body = small(prompt="the last place")
    waiting = [narrow.submit(), narrow.submit()]
    last = post(narrow, body, **{"Idempotency-Key": "last"}).json()
    full = post(narrow, small())
    assert full.status_code == 503
    assert int(full.headers["retry-after"]) >= 1
    assert full.headers["content-type"] == "application/problem+json"
    assert "3" in full.json()["detail"]
    wrong = post(narrow, small(width=65))
    assert wrong.status_code == 422
    replay = post(narrow, body, **{"Idempotency-Key": "last"})
    assert (replay.status_code, replay.json()) == (202, last)
    narrow.cancel(blocker)
    for job_id in (*waiting, last["job_id"]):
        assert narrow.finish(job_id)["status"] == "completed"
    assert narrow.finish(narrow.submit())["status"] == "completed"


def test_interactive_jobs_go_before_batch_jobs(narrow: Api) -> None:
    blocker = narrow.submit(steps=100)
    later = narrow.submit(priority="batch")
    sooner = narrow.submit(priority="interactive")
    assert narrow.job(sooner)["queue_position"] == 1
    assert narrow.job(later)["queue_position"] == 2
    narrow.cancel(blocker)
    first, second = narrow.finish(sooner), narrow.finish(later)
    assert first["started_at"] <= second["started_at"]


# Refusals -------------------------------------------------------------------------------------

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
    ("stpes", 20, "unknown field; this model takes prompt"),
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
    problem = refused(api.client.post("/api/generate", content=content), 422)
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
    answer = api.client.post("/api/generate", content=content)
    assert 1 <= len(refused(answer, 422)["errors"]) <= 100
    assert len(answer.content) < len(content)


def test_a_prompt_is_required(api: Api) -> None:
    problem = refused(post(api, {}), 422)
    assert problem["errors"] == [{"pointer": "/prompt", "detail": "missing, and required"}]


@pytest.mark.parametrize("content", ["[]", '"a prompt"', "5", "null", "true", '[{"prompt": "a"}]'])
def test_a_body_that_is_no_object_is_refused(api: Api, content: str) -> None:
    problem = refused(api.client.post("/api/generate", content=content), 422)
    assert problem["errors"][0]["pointer"] == ""
    assert "is not of type object" in problem["detail"]


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "1" + "0" * 5000, "-1" + "0" * 5000, "64.0000001"]
)
@pytest.mark.parametrize("field", ["width", "seed", "cfg_scale", "guidance_rescale"])
def test_a_number_beyond_all_bounds_is_refused_by_name(api: Api, field: str, number: str) -> None:
    text = json.dumps(small()).removesuffix("}") + f', "{field}": {number}}}'
    answer = api.client.post("/api/generate", content=text)
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
    refused(api.client.post("/api/generate", content=content), 400)


@pytest.mark.parametrize("depth", [50, 300, 900, 990, 5000])
def test_nesting_is_refused_at_any_depth(api: Api, depth: int) -> None:
    content = b'{"prompt": ' + b"[" * depth + b"]" * depth + b"}"
    answer = api.client.post("/api/generate", content=content)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_over_a_mebibyte_is_a_413_however_it_is_sent(api: Api) -> None:
    body = json.dumps({"prompt": "x" * (2 * MEBIBYTE)}).encode()

    def in_chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for content in (body, in_chunks()):
        problem = refused(api.client.post("/api/generate", content=content), 413)
        assert str(MEBIBYTE) in problem["detail"]
    padded = json.dumps({"prompt": "x" * 20_000}).encode()
    filled = padded + b" " * (MEBIBYTE - len(padded))
    refused(api.client.post("/api/generate", content=filled), 422)
    refused(api.client.post("/api/generate", content=filled + b" "), 413)


def test_text_is_taken_as_it_is(api: Api) -> None:
    prompt = "\u0000 \u001b[31m 名前 👩‍👩‍👧 \u202e" + "é" * 5000
    assert api.finish(api.submit(prompt=prompt, steps=1))["request"]["prompt"] == prompt


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem in an answer, checked against RFC 9457."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "\n" not in problem["detail"]
    return problem
