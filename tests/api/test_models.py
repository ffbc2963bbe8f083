"""Several models behind one server: each request by its own, loaded when a job wants it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.live import Api, LiveServer, Options, refused, small

ONE_AT_A_TIME = ("--model-memory-mb", "1")


@pytest.fixture(scope="module")
def narrow_shelf(
    tiny_package: Path, tiny_flux_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server of two models, of which one is loaded at a time."""
    assert tiny_package == tiny_flux_package
    data = tmp_path_factory.mktemp("two")
    with LiveServer(Options(tiny_package, data, "tiny,tiny_flux", ONE_AT_A_TIME)) as running:
        yield running


@pytest.fixture
def two(narrow_shelf: LiveServer) -> Api:
    """A client of that server."""
    return narrow_shelf.api


@pytest.fixture(scope="module")
def wide_shelf(
    tiny_package: Path,
    tiny_flux_package: Path,
    tiny_zimage_package: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveServer]:
    """A server of three models that fit beside one another."""
    assert tiny_package == tiny_flux_package == tiny_zimage_package
    data = tmp_path_factory.mktemp("three")
    with LiveServer(Options(tiny_package, data, "tiny_zimage,tiny,tiny_flux")) as running:
        yield running


@pytest.fixture
def three(wide_shelf: LiveServer) -> Api:
    """A client of that server."""
    return wide_shelf.api


def loaded(api: Api) -> set[str]:
    """The models that the worker holds."""
    (worker,) = api.client.get("/health").json()["workers"]
    return set(worker["models"])


def test_a_request_is_drawn_by_the_model_that_it_names(two: Api, api: Api) -> None:
    first, other = two.submit(seed=5), two.submit(seed=5, model="tiny_flux")
    again = two.submit(seed=5, model="tiny")
    jobs = [two.finish(job) for job in (first, other, again)]
    assert [job["model"] for job in jobs] == ["tiny", "tiny_flux", "tiny"]
    assert [job["image"]["model"] for job in jobs] == ["tiny", "tiny_flux", "tiny"]
    assert [job["request"]["model"] for job in jobs] == ["tiny", "tiny_flux", "tiny"]
    pictures = [two.picture(job) for job in jobs]
    assert pictures[0] == pictures[2] == api.draw(seed=5)
    assert pictures[1] != pictures[0]
    listed = two.client.get("/api/images", params={"limit": 3}).json()["images"]
    assert sorted(image["model"] for image in listed) == ["tiny", "tiny", "tiny_flux"]


def test_info_describes_each_model_and_names_all(three: Api) -> None:
    info = three.client.get("/api/info").json()
    assert info["model"]["name"] == "tiny_zimage"
    assert info["models"] == ["tiny_zimage", "tiny", "tiny_flux"]
    assert "model" not in info["parameters"]["required"]
    other = three.client.get("/api/info", params={"model": "tiny_flux"}).json()
    assert (other["model"]["name"], other["model"]["family"]) == ("tiny_flux", "flux")
    assert other["parameters"]["properties"]["model"]["enum"] == ["tiny_flux"]
    assert "model" in other["parameters"]["required"]
    problem = refused(three.client.get("/api/info", params={"model": "none"}), 404)
    listed = "'none' is not served here; 'tiny_zimage', 'tiny', 'tiny_flux' are"
    assert problem["errors"] == [{"pointer": "/model", "detail": listed}]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"model": "none"}, "/model", "'none' is not served here; 'tiny_zimage', 'tiny'"),
        ({"model": 7}, "/model", "7 is not served here"),
        ({"model": "tiny", "sampler": "flow"}, "/sampler", "is not one of euler, euler_a"),
        ({"model": "tiny_flux", "sampler": "ddim"}, "/sampler", "is not one of euler"),
        ({"sampler": "ddim"}, "/sampler", "is not one of euler"),
        ({"model": "tiny_flux", "clip_skip": 1}, "/clip_skip", "cannot honour this field"),
    ],
)
def test_a_request_is_checked_by_the_model_that_it_names(
    body: dict[str, Any], pointer: str, detail: str, three: Api
) -> None:
    (error,) = refused(three.client.post("/api/generate", json=small(**body)), 422)["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]


def test_models_that_fit_stay_loaded_and_draw_jobs_of_one_queue(three: Api) -> None:
    names = ["tiny_flux", "tiny", "tiny_zimage"] * 2
    jobs = [three.finish(job) for job in [three.submit(model=name, seed=1) for name in names]]
    assert [job["model"] for job in jobs] == names
    pictures = [three.picture(job) for job in jobs]
    assert pictures[:3] == pictures[3:]
    assert len(set(pictures)) == 3
    assert loaded(three) == set(names)
    metrics = three.client.get("/metrics").text
    assert 'calotype_model_loads_total{model="tiny"} 1.0' in metrics
    assert 'calotype_model_loads_total{model="tiny_flux"} 1.0' in metrics
    assert "calotype_model_evictions_total 0.0" in metrics


def test_a_model_is_given_up_for_the_next_and_comes_back(two: Api) -> None:
    for name in ("tiny_flux", "tiny"):
        two.draw(model=name)
        assert loaded(two) == {name}
    metrics = two.client.get("/metrics").text
    assert 'calotype_model_load_seconds_total{model="tiny"}' in metrics
    assert "calotype_model_evictions_total 0.0" not in metrics


def test_previews_and_cancels_are_those_of_the_named_model(three: Api) -> None:
    _, events = three.draw_told(model="tiny_flux", steps=3)
    assert [event.data["status"] for event in events][-1] == "completed"
    assert any(event.data.get("preview") for event in events)
    assert events[-1].data["image"]["model"] == "tiny_flux"
    running = three.submit(model="tiny", steps=100, width=512, height=512)
    three.wait_until(lambda: three.job(running)["step"] > 1)
    other = three.submit(model="tiny_flux")
    assert three.cancel(running).status_code == 200
    assert three.finish(running)["status"] == "canceled"
    assert three.finish(other)["status"] == "completed"


def test_a_job_that_waits_for_its_model_can_be_canceled(two: Api) -> None:
    two.draw(model="tiny")
    busy = two.submit(model="tiny", steps=100, width=512, height=512)
    two.wait_until(lambda: two.job(busy)["step"] > 1)
    waiting = two.submit(model="tiny_flux")
    assert two.cancel(waiting).status_code == 200
    assert two.finish(waiting)["status"] == "canceled"
    assert loaded(two) == {"tiny"}
    two.cancel(busy)
    assert two.finish(busy)["status"] == "canceled"
    assert two.finish(two.submit(model="tiny_flux"))["status"] == "completed"


def test_a_crash_of_the_worker_costs_no_job_of_any_model(two: Api) -> None:
    jobs = [two.submit(model=name, steps=40, seed=3) for name in ("tiny_flux", "tiny") * 2]
    two.wait_until(lambda: any(two.job(job)["step"] > 2 for job in jobs))
    (worker,) = two.client.get("/health").json()["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    ended = [two.finish(job) for job in jobs]
    assert [job["model"] for job in ended] == ["tiny_flux", "tiny"] * 2
    pictures = [two.picture(job) for job in ended]
    assert pictures[:2] == pictures[2:]


def test_a_restart_under_other_models_fails_the_jobs_of_those_that_went(
    tiny_package: Path, tiny_flux_package: Path, tmp_path: Path
) -> None:
    assert tiny_package == tiny_flux_package
    options = Options(tiny_package, tmp_path, "tiny,tiny_flux", ("--max-batch", "1"))
    with LiveServer(options) as server:
        server.api.occupy()
        kept = server.api.submit(seed=1)
        gone = server.api.submit(model="tiny_flux")
        server.end(signal.SIGKILL)
    with LiveServer(Options(tiny_package, tmp_path, "tiny")) as server:
        job = server.api.finish(gone)
        assert job["status"] == "failed"
        assert "'tiny_flux'; this server now serves 'tiny'" in job["error"]["detail"]
        server.api.cancel_all()
        assert server.api.job(kept)["status"] in {"queued", "processing", "completed"}


def test_openai_lists_the_models_and_draws_by_the_one_that_is_named(three: Api) -> None:
    listed = three.client.get("/v1/models").json()["data"]
    assert [each["id"] for each in listed] == ["tiny_zimage", "tiny", "tiny_flux"]
    assert three.client.get("/v1/models/tiny").json()["id"] == "tiny"
    body = {"prompt": "a cat", "size": "64x64", "steps": 1, "response_format": "url"}
    answer = three.client.post("/v1/images/generations", json={**body, "model": "tiny_flux"})
    assert answer.status_code == 200, answer.text
    assert three.client.get("/api/images").json()["images"][0]["model"] == "tiny_flux"
    answer = three.client.post("/v1/images/generations", json={**body, "model": "dall-e-3"})
    assert answer.status_code == 404
    assert "'tiny_zimage', 'tiny', 'tiny_flux' are" in answer.json()["error"]["message"]


def test_the_web_uis_api_lists_the_models_and_keeps_the_one_that_is_chosen(three: Api) -> None:
    names = [each["model_name"] for each in three.client.get("/sdapi/v1/sd-models").json()]
    assert names == ["tiny_zimage", "tiny", "tiny_flux"]

    def drawn_by(**body: object) -> str:
        small = {"prompt": "x", "width": 64, "height": 64, "steps": 1, "send_images": False}
        answer = three.client.post("/sdapi/v1/txt2img", json={**small, **body})
        assert answer.status_code == 200, answer.text
        model: str = three.client.get("/api/images").json()["images"][0]["model"]
        return model

    options = "/sdapi/v1/options"
    assert drawn_by() == "tiny_zimage"
    assert three.client.post(options, json={"sd_model_checkpoint": "tiny"}).status_code == 200
    try:
        assert three.client.get(options).json()["sd_model_checkpoint"].startswith("tiny")
        assert drawn_by(sampler_name="DPM++ 2M Karras") == "tiny"
        assert drawn_by(override_settings={"sd_model_checkpoint": "tiny_flux"}) == "tiny_flux"
        assert drawn_by() == "tiny"
        answer = three.client.post(options, json={"sd_model_checkpoint": "none"})
        assert answer.status_code == 422
        assert "is not served here; these are: tiny_zimage" in answer.json()["detail"]
    finally:
        three.client.post(options, json={"sd_model_checkpoint": "tiny_zimage"})
