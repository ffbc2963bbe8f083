"""Requests that no engine takes are refused over HTTP before any work, and by the worker."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.access import Access
from api.app import create_app
from api.callers import Callers
from api.cli import main
from api.commands import generate
from api.metrics import Metrics
from api.services import Services
from runtime.backends.catalog import Choice
from runtime.jobs.protocol import JobStatus
from runtime.package.target import Target
from runtime.plan.models import Models
from tests.api.live import refused, small
from tests.fakes.worker import FATAL, NO_GRAPH, SPOILT_BY, servable, stand_in
from tests.places import ROOT
from tests.runtime.jobs.serving import Server, serving
from tests.runtime.package.targets import add_target

SIZES = ((64, 64), (96, 64))


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """An engines folder with the committed demo model and its LoRA."""
    ignored = shutil.ignore_patterns("targets")
    shutil.copytree(ROOT / "engines/demo", tmp_path / "engines/demo", ignore=ignored)
    return tmp_path / "engines"


@pytest.fixture
def target(engines: Path) -> Target:
    """The target that is served: two sizes, and no LoRAs."""
    return add_target(engines / "demo", servable(SIZES, fixed_weights=True))


@asynccontextmanager
async def spoken_to(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """The app in front of it, without a port."""
    rooms = Services(
        Models.of(server.model),
        server.broker,
        server.supervisor,
        server.gallery,
        Metrics(),
        Callers(),
    )
    transport = httpx.ASGITransport(create_app(rooms, Access()))
    async with httpx.AsyncClient(transport=transport, base_url="http://calotype") as client:
        yield client


def test_over_http_it_is_a_422_and_no_job(
    engines: Path, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))

    async def check() -> None:
        data = tmp_path / "data"
        async with serving(engines, data, name="demo") as server, spoken_to(server) as client:
            await server.supervisor.wait_ready()
            await check_refusals(server, client, target)
            taken = await client.post("/api/generate", json=small(width=96, height=64))
            assert taken.status_code == 202
            assert (await server.finish(taken.json()["job_id"])).status is JobStatus.COMPLETED

    asyncio.run(check())


def test_what_runs_otherwise_than_it_should_is_told_by_info(
    engines: Path, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    monkeypatch.setenv(NO_GRAPH, "1")

    async def check() -> None:
        data = tmp_path / "data"
        async with serving(engines, data, name="demo") as server, spoken_to(server) as client:
            await server.supervisor.wait_ready()
            engine = (await client.get("/api/info")).json()["engine"]
            assert engine["target"] == target.name
            assert " runs without a CUDA graph: " in engine["note"]

    asyncio.run(check())


@pytest.mark.usefixtures("target")
def test_a_graph_that_fails_while_jobs_run_is_told_by_info(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    monkeypatch.setenv(SPOILT_BY, str(tmp_path / "spoilt"))

    async def check() -> None:
        served = serving(engines, tmp_path / "data", lease_seconds=8, name="demo")
        async with served as server, spoken_to(server) as client:
            await server.supervisor.wait_ready()
            assert "CUDA graph" not in (await client.get("/api/info")).json()["engine"]["note"]
            (tmp_path / "spoilt").touch()
            long = " ".join(["a red apple on a blue table"] * 8)
            job = await server.finish(await server.submit(prompt=long, width=64, height=64))
            assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)
            note = ""
            while " runs without a CUDA graph: " not in note:  # The next heartbeat has it.
                note = (await client.get("/api/info")).json()["engine"]["note"]

    asyncio.run(check())


@pytest.mark.usefixtures("target")
def test_a_worker_that_a_graph_has_ended_is_followed_by_one_without_graphs(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    monkeypatch.setenv(FATAL, "1")

    async def check() -> None:
        served = serving(engines, tmp_path / "data", name="demo")
        async with served as server, spoken_to(server) as client:
            await server.supervisor.wait_ready()
            job = await server.finish(await server.submit(width=64, height=64))
            assert job.status is JobStatus.COMPLETED
            assert server.supervisor.workers[0].restarts == 1
            note = (await client.get("/api/info")).json()["engine"]["note"]
            told = "no CUDA graphs are used, since a worker was lost when it launched a new one"
            assert f"{told} of text_encoder: " in note
            assert "SIGABRT" in note

    asyncio.run(check())


@pytest.mark.usefixtures("target")
def test_a_graph_that_ends_the_worker_is_no_reason_to_go_back_to_the_cpu(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    monkeypatch.setenv(FATAL, "1")

    async def check() -> None:
        data = tmp_path / "data"
        served = serving(engines, data, name="demo", backend="onnxruntime-cpu")
        async with served as server, spoken_to(server) as client:
            await server.supervisor.wait_ready()
            await server.supervisor.renew("tensorrt-rtx")
            await server.supervisor.wait_ready()
            job = await server.finish(await server.submit(width=64, height=64))
            assert job.status is JobStatus.COMPLETED
            engine = (await client.get("/api/info")).json()["engine"]
            assert engine["backend"] == "tensorrt-rtx"
            assert "no CUDA graphs are used" in engine["note"]

    asyncio.run(check())


@pytest.mark.usefixtures("target")
def test_a_gpus_memory_comes_to_be_shown_by_metrics(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))

    async def check() -> None:
        data = tmp_path / "data"
        # A lease that is short, for the sake of its heartbeats.
        served = serving(engines, data, lease_seconds=8, name="demo")
        async with served as server, spoken_to(server) as client:
            await server.supervisor.wait_ready()
            assert server.supervisor.workers[0].device == "Imagined GPU"
            page = ""
            while 'calotype_device_memory_bytes{use="weights",worker="0"}' not in page:
                page = (await client.get("/metrics")).text
                await asyncio.sleep(0.05)

    asyncio.run(check())


async def check_refusals(server: Server, client: httpx.AsyncClient, target: Target) -> None:
    engine = (await client.get("/api/info")).json()["engine"]
    assert (engine["backend"], engine["target"]) == ("tensorrt-rtx", target.name)
    assert engine["sizes"] == [
        {"min_width": width, "max_width": width, "min_height": height, "max_height": height}
        for width, height in SIZES
    ]
    problem = refused(await client.post("/api/generate", json=small(width=128)), 422)
    [error] = problem["errors"]
    assert error["pointer"] == "/width"
    assert "no engine takes 128x64 pixels; they take 64x64, 96x64; " in error["detail"]
    assert f"--sizes (these are of: {target.record.command})" in error["detail"]
    loras = [{"id": server.model.loras()[0].id, "weight": 1}]
    both = await client.post("/api/generate", json=small(width=128, loras=loras))
    pointers = [error["pointer"] for error in refused(both, 422)["errors"]]
    assert pointers == ["/width", "/loras"]
    assert server.broker.counters().submitted == 0
    # As if it had been accepted while other engines were in use.
    job = await server.finish(await server.submit(width=128, height=64))
    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    assert job.error is not None
    assert job.error.detail == problem["detail"]


def test_the_command_refuses_it_before_engines_are_opened(
    engines: Path,
    target: Target,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = Choice("tensorrt-rtx", target, None, "chosen by the test")
    monkeypatch.setattr(generate, "choose", lambda *_: chosen)
    picture = tmp_path / "picture.png"
    flags = ["--engines", str(engines), "--width", "128", "--height", "64", "-o", str(picture)]
    assert main(["generate", "a red heart", *flags]) == 2
    note, line = capsys.readouterr().err.splitlines()
    assert note == "chosen by the test"
    assert line.startswith("calotype: width: no engine takes 128x64 pixels; ")
    assert not picture.exists()
