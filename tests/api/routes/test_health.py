"""Health, readiness and metrics, as a watcher of the server sees them."""

from prometheus_client.parser import text_string_to_metric_families

from tests.api.live import Api


def test_health_names_the_worker(api: Api) -> None:
    health = api.client.get("/health").json()
    assert health["status"] == "ok"
    [worker] = health["workers"]
    assert set(worker) == {"pid", "state", "device", "restarts", "models"}
    assert worker["models"] == ["tiny"]
    assert isinstance(worker["pid"], int)
    assert worker["state"] == "ready"


def test_ready_is_ready(api: Api) -> None:
    answer = api.client.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_metrics_count_jobs_and_answers(api: Api) -> None:
    before = figures(api)
    api.finish(api.submit(steps=3))
    api.client.get("/api/jobs/no-such-job")
    after = figures(api)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grown("calotype_jobs_submitted_total") == 1
    assert grown("calotype_jobs_ended_total", status="completed") == 1
    assert grown("calotype_steps_total") == 3
    route = "/api/jobs/{job_id}"
    assert grown("calotype_http_requests_total", method="GET", route=route, status="404") == 1
    assert not any("no-such-job" in value for _, labels in after for _, value in labels)


def test_a_prompt_that_returns_is_not_encoded_again(api: Api) -> None:
    wish = {"prompt": "a prompt that returns", "negative_prompt": "one more"}
    api.finish(api.submit(**wish))
    before = figures(api)
    api.finish(api.submit(**wish))
    after = figures(api)
    grown = [
        after[name, ()] - before[name, ()]
        for name in ("calotype_conditioning_hits_total", "calotype_conditioning_misses_total")
    ]
    assert grown == [2, 0]


def figures(api: Api) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the page."""
    answer = api.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
