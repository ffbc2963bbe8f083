"""A job over HTTP: how it stands, and how it is canceled in every state."""

from tests.api.live import Api


def test_a_job_is_described_whole(api: Api) -> None:
    job_id = api.submit(prompt="two cats", seed=None, steps=3)
    job = api.finish(job_id)
    seed = job["request"]["seed"]
    assert isinstance(seed, int)
    assert job == {
        "job_id": job_id,
        "model": "tiny",
        "status": "completed",
        "step": 3,
        "total_steps": 3,
        "queue_position": None,
        "attempt": 1,
        "priority": "interactive",
        "created_at": job["created_at"],
        "started_at": job["started_at"],
        "finished_at": job["finished_at"],
        "request": {
            "prompt": "two cats",
            "negative_prompt": None,
            "width": 64,
            "height": 64,
            "seed": seed,
            "loras": [],
            "steps": 3,
            "cfg_scale": 7.0,
            "sampler": "euler_a",
            "schedule": "default",
            "clip_skip": 0,
            "guidance_rescale": 0.0,
            "guidance_interval": None,
            "prompt_weighting": True,
            "output_format": "png",
            "preview_every": 1,
            "priority": "interactive",
            "model": "tiny",
        },
        "image": job["image"],
        "error": None,
        "cancel_requested": False,
        "warnings": [],
    }
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]


def test_syntax_of_other_tools_is_text_with_a_warning_in_the_job(api: Api) -> None:
    wish = {"prompt": "<lora:ink:0.8> a [cat:dog:0.5]", "negative_prompt": "rain AND fog"}
    warnings = api.finish(api.submit(**wish))["warnings"]
    quoted = [warning.partition(" is taken as text: ")[0] for warning in warnings]
    assert quoted == ["'<lora:ink:0.8>'", "'[cat:dog:0.5]'", "'AND'"]
    assert "loras" in warnings[0]
    plain = api.job(api.submit(**wish, prompt_weighting=False))
    assert plain["warnings"] == warnings[:1]


def test_the_request_of_a_job_gives_its_picture_again(api: Api) -> None:
    job = api.finish(api.submit(seed=None))
    again = api.finish(api.submit(**job["request"]))
    assert again["job_id"] != job["job_id"]
    assert api.picture(again) == api.picture(job)


def test_an_unknown_job_is_a_404(api: Api) -> None:
    for path in ("/api/jobs/0123456789abcdef", "/api/jobs/%00", "/api/jobs/..%2f", "/api/jobs/"):
        for method in ("GET", "DELETE"):
            answer = api.client.request(method, path)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


def test_a_queued_job_is_canceled_at_once(narrow: Api) -> None:
    blocker = narrow.occupy()
    job_id = narrow.submit()
    behind = narrow.submit()
    answer = narrow.cancel(job_id)
    assert answer.status_code == 200
    job = answer.json()
    assert (job["status"], job["image"], job["attempt"]) == ("canceled", None, 0)
    assert job["finished_at"] is not None
    assert narrow.job(behind)["queue_position"] == 1
    assert [event.data for event in narrow.events(job_id)] == [{"status": "canceled"}]
    assert narrow.cancel(job_id).json() == job
    narrow.cancel(blocker)
    assert narrow.finish(behind)["status"] == "completed"


def test_a_job_in_a_batch_is_gone_before_its_next_step_and_harms_no_neighbour(api: Api) -> None:
    size = {"width": 256, "height": 256}
    alone = api.draw(prompt="a green bicycle", steps=12, seed=11, **size)
    job_id = api.submit(steps=100, **size)
    with api.follow(job_id) as events:
        for event in events:
            if event.data.get("step", 0) >= 1:
                break
        neighbour = api.submit(prompt="a green bicycle", steps=12, seed=11, **size)
        answer = api.cancel(job_id)
        assert answer.status_code == 200
        assert answer.json()["status"] in {"processing", "canceled"}
        assert answer.json()["cancel_requested"] is True
        assert [event.status for event in events][-1] == "canceled"
    job = api.job(job_id)
    assert job["status"] == "canceled"
    assert job["step"] < 100
    assert job["image"] is None
    assert api.picture(api.finish(neighbour)) == alone


def test_canceling_twice_is_fine(api: Api) -> None:
    job_id = api.occupy()
    first, second = api.cancel(job_id), api.cancel(job_id)
    assert (first.status_code, second.status_code) == (200, 200)
    assert api.finish(job_id)["status"] == "canceled"
    third = api.cancel(job_id)
    assert (third.status_code, third.json()["status"]) == (200, "canceled")


def test_a_job_that_has_completed_cannot_be_canceled(api: Api) -> None:
    job = api.finish(api.submit())
    answer = api.cancel(job["job_id"])
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert "completed" in answer.json()["detail"]
    assert api.job(job["job_id"]) == job
