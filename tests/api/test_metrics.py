"""Figures on the page for Prometheus."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import REFUSALS, Metrics
from runtime.jobs.facts import Counters, WorkerFacts, WorkerState
from runtime.wire.messages import TIMED
from tests.api.conftest import Starter
from tests.api.live import Api, Options, refused, small

Figures = dict[tuple[str, str], float]

NOTHING = Counters(0, 0, 0, {}, 0, 0, 0.0, 0.0, 0, 0, 0)


def test_device_memory_is_shown_by_what_it_is_used_for() -> None:
    memory = {"weights": 5_000_000_000, "free": 1_000_000}
    facts = WorkerFacts(1, WorkerState.READY, "Imagined GPU", 0, None, memory)
    page = Metrics().page(NOTHING, (facts,)).decode()
    assert 'calotype_device_memory_bytes{use="weights",worker="0"} 5e+09' in page
    assert 'calotype_device_memory_bytes{use="free",worker="0"} 1e+06' in page


def test_a_cpu_shows_none() -> None:
    facts = WorkerFacts(1, WorkerState.READY, "cpu", 0, None)
    assert "calotype_device_memory_bytes{" not in Metrics().page(NOTHING, (facts,)).decode()


def figures(api: Api) -> Figures:
    """The values of the page, by their name and the value of their own label."""
    page = api.client.get("/metrics").text
    samples = [
        sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.startswith("calotype_http")
    ]
    return {(sample.name, "".join(sample.labels.values())): sample.value for sample in samples}


def test_a_job_is_in_every_histogram_that_it_concerns(
    lora_engines: Path, tmp_path: Path, start: Starter
) -> None:
    """And a change of LoRAs, and back, in the two sums of these."""
    api = start(Options(lora_engines, tmp_path / "data", "demo")).api
    before = figures(api)
    for loras in ([], [{"id": "lora0"}], []):
        job = api.finish(api.submit(steps=3, loras=loras))
        assert job["status"] == "completed"
    after = figures(api)
    more = {key: value - before[key] for key, value in after.items() if "created" not in key[0]}
    waits = ("queue_wait", "first_step_wait", "job_turnaround")
    for name in waits:
        assert more[f"calotype_{name}_seconds_count", ""] == 3
        assert more[f"calotype_{name}_seconds_bucket", "+Inf"] == 3
        assert more[f"calotype_{name}_seconds_bucket", "3600.0"] == 3
    sums = [more[f"calotype_{name}_seconds_sum", ""] for name in waits]
    assert 0 < sums[0] < sums[1] < sums[2]
    stages = {stage: more["calotype_stage_seconds_count", stage] for stage in TIMED}
    assert stages.pop("preview") <= 9  # Previews may give way.
    assert stages == {"encode": 3, "step": 9, "decode": 3, "save": 3}
    assert all(more["calotype_stage_seconds_sum", stage] > 0 for stage in stages)
    assert more["calotype_batch_samples_count", ""] == 9
    assert more["calotype_batch_samples_bucket", "1.0"] == 9
    calls = ("calotype_denoiser_calls_total", "calotype_loop_starts_total")
    assert sum(more[name, ""] for name in calls) == 9
    assert more["calotype_lora_changes_total", ""] == 2
    assert more["calotype_lora_seconds_total", ""] > 0


@pytest.mark.parametrize("stream", ["job", "gallery"])
def test_open_streams_are_counted_while_they_are_open(narrow: Api, stream: str) -> None:
    key = ("calotype_streams_open", stream)
    begun = narrow.occupy()
    narrow.wait_until(lambda: figures(narrow)[key] == 0)
    with narrow.follow(begun if stream == "job" else "gallery") as events:
        next(events)
        assert figures(narrow)[key] == 1
    narrow.wait_until(lambda: figures(narrow)[key] == 0)


def test_a_refusal_is_counted_by_its_reason(narrow: Api) -> None:
    def refusals() -> dict[str, float]:
        found = figures(narrow)
        return {reason: found["calotype_refusals_total", reason] for reason in REFUSALS}

    narrow.occupy()
    for _ in range(3):
        narrow.submit()
    before = refusals()
    refused(narrow.client.post("/api/generate", json=small()), 503)
    refused(narrow.client.post("/api/generate", json=small(steps=-1)), 422)
    assert refusals() == {**before, "queue_full": before["queue_full"] + 1}
