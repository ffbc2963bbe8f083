"""Submitting over HTTP: the guide's examples, what callers may ask for."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from api.examples import GUIDE
from runtime.draw.recipe import read_recipe
from tests.api.live import Api, refused, small


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


def test_several_pictures_are_jobs_whose_seeds_count_up(api: Api) -> None:
    answer = post(api, small(seed=2**32 - 2, n=3))
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    assert set(batch) == {"batch_id", "events_url", "jobs"}
    assert batch["events_url"] == f"/api/sse/batch/{batch['batch_id']}"
    jobs = [api.finish(accepted["job_id"]) for accepted in batch["jobs"]]
    seeds = [2**32 - 2, 2**32 - 1, 0]
    assert [job["request"]["seed"] for job in jobs] == seeds
    assert all("n" not in job["request"] for job in jobs)
    assert [api.picture(job) for job in jobs] == [api.draw(seed=seed) for seed in seeds]


def test_several_pictures_are_drawn_from_one_encoding_of_the_prompts(api: Api) -> None:
    def encoded() -> float:
        text = api.client.get("/metrics").text
        name = "calotype_conditioning_misses_total "
        [line] = [each for each in text.splitlines() if each.startswith(name)]
        return float(line.split()[-1])

    api.draw(prompt="first of all")
    before = encoded()
    batch = post(api, small(prompt="three kites over a lake", n=3)).json()
    jobs = [api.finish(accepted["job_id"]) for accepted in batch["jobs"]]
    first = jobs[0]["request"]["seed"]
    assert [job["request"]["seed"] - first for job in jobs] == [0, 1, 2]
    alone = encoded() - before
    api.draw(prompt="four kites over a lake")
    assert alone == encoded() - before - alone


def test_several_pictures_are_one_submission(narrow: Api) -> None:
    running = narrow.occupy()
    problem = refused(post(narrow, small(n=4)), 503)
    assert "takes 3 and these are 4" in problem["detail"]
    headers = {"Idempotency-Key": "a batch"}
    first, again = (post(narrow, small(n=3), **headers).json() for _ in range(2))
    assert first == again
    assert [job["queue_position"] for job in first["jobs"]] == [1, 2, 3]
    for job in [{"job_id": running}, *first["jobs"]]:
        narrow.cancel(job["job_id"])


@pytest.mark.parametrize("number", [0, 11, "2", None, 1.5])
def test_a_wrong_number_of_pictures_is_refused_beside_other_faults(
    api: Api, number: object
) -> None:
    problem = refused(post(api, small(n=number, stpes=2)), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"/n", "/stpes"}


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


@pytest.mark.parametrize("prefer", ["wait=60", "wait=61"])
def test_waiting_is_answered_with_the_job_when_it_ends_in_time(api: Api, prefer: str) -> None:
    answer = post(api, small(), Prefer=prefer)
    assert answer.status_code == 200
    job = answer.json()
    assert job["status"] == "completed"
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.headers["location"] == f"/api/jobs/{job['job_id']}"
    assert job == api.job(job["job_id"])


def test_waiting_is_answered_with_the_acceptance_when_time_is_over(narrow: Api) -> None:
    blocker = narrow.occupy()
    answer = post(narrow, small(), Prefer="wait=1")
    narrow.cancel(blocker)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.json()["status"] == "queued"
    assert narrow.finish(answer.json()["job_id"])["status"] == "completed"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait", "respond-async", "é"])
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
    blocker = narrow.occupy()
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
    blocker = narrow.occupy()
    later = narrow.submit(priority="batch")
    sooner = narrow.submit(priority="interactive")
    assert narrow.job(sooner)["queue_position"] == 1
    assert narrow.job(later)["queue_position"] == 2
    narrow.cancel(blocker)
    first, second = narrow.finish(sooner), narrow.finish(later)
    assert first["started_at"] <= second["started_at"]
