"""A worker is killed in every stage of a job: nothing is lost, and nothing is made twice."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.jobs import process
from runtime.jobs.protocol import JobStatus
from tests.fakes.fatal_worker import STAGE_FILE, STAGES
from tests.places import ENGINES
from tests.runtime.jobs.serving import Server, serving

SENT = "after the row"


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def server(data: Path, runner: asyncio.Runner) -> Iterator[Server]:
    """One server for all kills, each of which costs it its worker."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "MODULE", "tests.fakes.fatal_worker")
        patched.setenv(STAGE_FILE, str(data / "last_stage"))
        context = serving(ENGINES, data, name="demo", backend="onnxruntime-cpu")
        server = runner.run(context.__aenter__())
        runner.run(server.supervisor.wait_ready())
        yield server
        runner.run(context.__aexit__(None, None, None))


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_in_any_stage_loses_nothing_and_doubles_nothing(
    stage: str, server: Server, data: Path, runner: asyncio.Runner
) -> None:
    async def check() -> None:
        order = data / "last_stage"
        before = {image.job_id for image in (await server.broker.images(200, None)).images}
        order.write_text(stage)
        if stage == "loading":
            os.kill(server.pid, signal.SIGKILL)
        size = {"width": 64, "height": 64, "steps": 5}
        ids = [await server.submit(seed=seed, **size) for seed in range(3)]
        jobs = [await server.finish(job_id) for job_id in ids]
        assert not order.exists()
        assert [job.status for job in jobs] == [JobStatus.COMPLETED] * 3
        assert all(job.attempt <= 2 for job in jobs)
        # Not by their begins: one that the worker held and had not begun begins anew.
        ended = [job.finished_at for job in jobs if job.finished_at]
        assert len(ended) == 3
        assert ended == sorted(ended)
        if stage == SENT:
            assert jobs[0].attempt == 1
        images = (await server.broker.images(200, None)).images
        made = [image.job_id for image in images if image.job_id not in before]
        assert sorted(made) == sorted(ids)
        listed = {image.filename for image in images}
        for folder in ("images", "thumbs"):
            assert {path.name for path in (data / folder).iterdir()} == listed
        again = await server.finish(await server.submit(seed=0, **size))
        assert server.picture(jobs[0]) == server.picture(again)

    runner.run(check())
