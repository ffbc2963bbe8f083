"""A worker process that is killed, stopped, silenced and cannot start."""

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.jobs.facts import WorkerState
from runtime.jobs.process import WorkerProcess
from runtime.jobs.protocol import JobStatus
from runtime.jobs.session import News
from runtime.jobs.supervisor import WorkerFailed
from runtime.plan.model import open_model
from runtime.wire.messages import Assignment, Broken, Message, Ready, Trial
from tests.fakes.scripted_worker import scripted_worker
from tests.places import ROOT
from tests.runtime.jobs.serving import serving

SERVE = """
import asyncio, sys
from pathlib import Path
from tests.runtime.jobs.serving import serving

async def main():
    async with serving(Path(sys.argv[1]), Path(sys.argv[2])) as server:
        await server.supervisor.wait_ready()
        job_id = await server.submit(steps=100)
        await server.reach(job_id, 2)
        print(server.pid, job_id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

WORK_ON_A_BROKEN_DEVICE = """
import sys
from runtime.backends.host_denoiser import HostDenoiser
from runtime.errors import BackendError
from runtime.worker.main import leave, main

advance, calls = HostDenoiser.advance, []

def fail_later(self, rows):
    calls.append(rows)
    if len(calls) > 3:
        raise BackendError("denoiser: the device is lost")
    advance(self, rows)

HostDenoiser.advance = fail_later
leave(main(sys.argv[1:]))
"""


def test_a_killed_worker_is_replaced_and_its_job_makes_one_picture(
    tiny_package: Path, tmp_path: Path
) -> None:
    async def check() -> None:
        async with serving(tiny_package, tmp_path) as server:
            await server.supervisor.wait_ready()
            facts = server.supervisor.workers[0]
            assert (facts.state, facts.restarts, facts.error) == (WorkerState.READY, 0, None)
            job_id = await server.submit(steps=40)
            await server.reach(job_id, 3)
            first = server.pid
            os.kill(first, signal.SIGKILL)
            job = await server.finish(job_id)
            assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
            assert server.pid != first
            assert server.supervisor.workers[0].restarts == 1
            assert len((await server.broker.images(9, None)).images) == 1
            assert len(list((tmp_path / "images").iterdir())) == 1
            assert len(list((tmp_path / "thumbs").iterdir())) == 1
            alone = await server.finish(await server.submit(steps=40))
            assert server.picture(job) == server.picture(alone)

    asyncio.run(check())


def test_a_process_that_was_started_ahead_becomes_the_first_worker(
    tiny_package: Path, tmp_path: Path
) -> None:
    async def check() -> None:
        with WorkerProcess() as first:
            async with serving(tiny_package, tmp_path, first=first) as server:
                await server.supervisor.wait_ready()
                assert server.pid == first.pid
                job = await server.finish(await server.submit())
                assert job.status is JobStatus.COMPLETED
                os.kill(first.pid, signal.SIGKILL)
                job = await server.finish(await server.submit())
                assert job.status is JobStatus.COMPLETED
                assert server.pid != first.pid

    asyncio.run(check())


def test_a_process_that_died_before_it_had_its_options_is_replaced(
    tiny_package: Path, tmp_path: Path
) -> None:
    async def check() -> None:
        with WorkerProcess() as first:
            os.kill(first.pid, signal.SIGKILL)
            ended = os.pidfd_open(first.pid)
            select.select([ended], [], [])
            os.close(ended)
            async with serving(tiny_package, tmp_path, first=first) as server:
                await server.supervisor.wait_ready()
                facts = server.supervisor.workers[0]
                assert (facts.restarts, server.pid != first.pid) == (1, True)

    asyncio.run(check())


def test_products_of_the_worker_leave_the_cores_to_its_steps(
    tiny_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)

    async def threads() -> str:
        async with serving(tiny_package, tmp_path) as server:
            await server.supervisor.wait_ready()
            content = Path(f"/proc/{server.pid}/environ").read_bytes().decode()
            variables = dict(entry.split("=", 1) for entry in content.split("\0") if entry)
            return variables["OPENBLAS_NUM_THREADS"]

    assert asyncio.run(threads()) == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert asyncio.run(threads()) == "2"


@pytest.mark.parametrize(
    ("said", "blamed"),
    [
        ([], True),
        ([Broken("denoiser: a new CUDA graph took the device", False, of_graph=True)], True),
        ([Broken("denoiser: the GPU's memory does not hold buffers", lasting=False)], False),
        ([Trial("vae_decoder", over=True)], False),
        ([Trial("denoiser", over=False), Trial("vae_decoder", over=True)], True),
    ],
    ids=["silent", "it said so", "another cause", "over", "another thread's is not"],
)
def test_a_graph_is_blamed_where_one_ended_the_worker(
    said: list[News], blamed: bool, tiny_package: Path, tmp_path: Path
) -> None:
    async def check() -> None:
        async with serving(tiny_package, tmp_path) as server:
            await server.supervisor.wait_ready()
            for message in (Trial("vae_decoder", over=False), *said):
                server.supervisor._hear(message)
            os.kill(server.pid, signal.SIGKILL)
            while server.supervisor.workers[0].restarts == 0:
                await asyncio.sleep(0)
            engine = server.supervisor.engine
            assert engine is not None
            assert ("no CUDA graphs are used" in engine.note) is blamed

    asyncio.run(check())


def test_a_stopped_server_hands_its_jobs_to_the_next_one(
    tiny_package: Path, tmp_path: Path
) -> None:
    async def check() -> None:
        async with serving(tiny_package, tmp_path) as server:
            running = await server.submit(steps=30)
            waiting = await server.submit(priority="batch")
            await server.reach(running, 2)
        assert server.supervisor.workers[0].state is WorkerState.STOPPED
        async with serving(tiny_package, tmp_path) as server:
            for job_id in (running, waiting):
                job = await server.finish(job_id)
                assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)

    asyncio.run(check())


def test_a_worker_that_is_told_to_stop_loses_no_attempt(tiny_package: Path, tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tiny_package, tmp_path, max_attempts=1) as server:
            job_id = await server.submit(steps=30)
            await server.reach(job_id, 2)
            os.kill(server.pid, signal.SIGTERM)
            job = await server.finish(job_id)
            assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)
            assert server.supervisor.workers[0].restarts == 1

    asyncio.run(check())


def test_a_worker_that_hangs_is_replaced(tiny_package: Path, tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tiny_package, tmp_path, lease_seconds=3, max_attempts=9) as server:
            job_id = await server.submit(steps=30)
            await server.reach(job_id, 2)
            hung = server.pid
            os.kill(hung, signal.SIGSTOP)
            job = await server.finish(job_id)
            assert job.status is JobStatus.COMPLETED
            assert job.attempt >= 2
            with pytest.raises(ProcessLookupError):
                os.kill(hung, 0)

    asyncio.run(check())


def test_a_damaged_package_is_named_and_not_tried_again(tiny_package: Path, tmp_path: Path) -> None:
    engines = tmp_path / "engines"
    shutil.copytree(tiny_package / "tiny", engines / "tiny")

    async def check() -> None:
        async with serving(engines, tmp_path / "data") as server:
            weights = engines / "tiny" / "denoiser.safetensors"
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
            with pytest.raises(WorkerFailed, match=r"denoiser\.safetensors: changed"):
                await server.supervisor.wait_ready()
            facts = server.supervisor.workers[0]
            assert (facts.pid, facts.state, facts.restarts) == (None, WorkerState.FAILED, 0)
            assert not server.supervisor.ready

    asyncio.run(check())


def test_a_worker_does_not_outlive_its_server(tiny_package: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tiny_package), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid, job_id = server.stdout.readline().split()
        worker = os.pidfd_open(int(pid))
        server.kill()
        ended, _, _ = select.select([worker], [], [], 60)
        os.close(worker)
    assert ended

    async def check() -> None:
        async with serving(tiny_package, tmp_path) as after:
            job = await after.finish(job_id)
            assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)

    asyncio.run(check())


def test_an_engine_that_fails_in_a_shared_call_ends_the_worker_with_its_reason(
    tiny_package: Path, tmp_path: Path
) -> None:
    model = open_model(tiny_package, "tiny")
    request = model.read({"prompt": "x", "seed": 1, "steps": 20}).to_json()
    with scripted_worker(WORK_ON_A_BROKEN_DEVICE, tmp_path, engines=tiny_package, model="tiny") as (
        worker,
        link,
    ):
        said: list[Message] = []
        while not (said and isinstance(said[-1], Broken)):
            said.append(link.receive())
            if isinstance(said[-1], Ready):
                link.send(Assignment("0" * 32, request))
        assert said[-1] == Broken("denoiser: the device is lost", lasting=False)
        assert worker.wait() == 1
