"""`serve`: a command makes a target ready meanwhile; the worker moves over between jobs."""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from api.cli import main
from api.preparation import Preparation, missing_target, unverified_target
from api.settings import Settings
from runtime.backends.catalog import Choice
from runtime.backends.devices import Devices, Gpu, find_devices
from runtime.backends.wishes import BackendWish
from runtime.errors import BackendError
from runtime.jobs.protocol import JobStatus
from runtime.package.manifest import ModelPackage, read_manifest
from runtime.package.target import Target, read_target, target_directories
from tests.places import ROOT
from tests.runtime.jobs.serving import serving
from tests.runtime.package.targets import PASSED, Made, add_target

GPU = Devices((Gpu("Imagined GPU", "sm_89", 24 * 2**30, "13.0"),), "")

ADD_TARGET = """
import os, sys
from pathlib import Path
from tests.runtime.jobs.serving import serving
from tests.runtime.package.targets import PASSED, Made, add_target
assert os.getpriority(os.PRIO_PROCESS, 0) == 19, "low priority"
add_target(Path(sys.argv[1]), Made())
"""


class Listening:
    """A supervisor that only hears what it is asked."""

    def __init__(self) -> None:
        self.asked: list[BackendWish] = []
        self.told = ""

    def tell(self, sentence: str) -> None:
        self.told = sentence

    async def renew(self, backend: BackendWish) -> None:
        self.asked.append(backend)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    ignored = shutil.ignore_patterns("targets", "loras")
    shutil.copytree(ROOT / "engines/demo", tmp_path / "engines/demo", ignore=ignored)
    manifest, digest = read_manifest(tmp_path / "engines/demo")
    return ModelPackage(tmp_path / "engines/demo", manifest, digest)


def chosen(target: Target | None) -> Choice:
    return Choice("tensorrt" if target else "onnxruntime-cpu", target, None, "why")


def preparation(command: Sequence[str], target: Target | None) -> Preparation:
    return Preparation("compiling", command, "tensorrt", lambda: chosen(target))


def test_what_is_missing_is_compiled_by_a_command(package: ModelPackage) -> None:
    settings = Settings(model="demo", engines=package.path.parent, backend="tensorrt")
    made = missing_target(settings, package, GPU)
    assert made is not None
    assert made.backend == "tensorrt"
    assert made.command[1:5] == ["-m", "engine_build", "compile", "demo"]
    assert made.command[-2:] == ["--backend", "tensorrt"]


def test_what_is_there_is_not_compiled_again(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.backends.rows.version", lambda _: "11.4.0")
    add_target(package.path, Made())
    assert missing_target(Settings(engines=package.path.parent), package, GPU) is None


def test_one_that_never_ran_on_its_gpu_is_verified_by_a_command(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.backends.rows.version", lambda _: "11.4.0")
    settings = Settings(model="demo", engines=package.path.parent)
    assert unverified_target(settings, package, GPU) is None
    target = add_target(package.path, Made(check=None))
    add_target(package.path, Made(compute_capability="sm_120", check=None))
    made = unverified_target(settings, package, GPU)
    assert made is not None
    assert made.command[1:5] == ["-m", "engine_build", "verify", "demo"]
    assert made.command[5] == target.name
    assert made.backend == "auto"


def test_nothing_is_verified_where_there_is_a_target_to_serve_with(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.backends.rows.version", lambda _: "11.4.0")
    settings = Settings(model="demo", engines=package.path.parent)
    add_target(package.path, Made(check=None))
    add_target(package.path, Made(sizes=((64, 64),)))
    assert unverified_target(settings, package, GPU) is None


def test_one_that_failed_its_check_is_not_verified_again(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.backends.rows.version", lambda _: "11.4.0")
    add_target(package.path, Made(check=replace(PASSED, largest_error=1.0)))
    assert unverified_target(Settings(engines=package.path.parent), package, GPU) is None


def test_where_nothing_can_be_compiled_for_the_flag_is_refused(package: ModelPackage) -> None:
    nowhere = Devices((), "this machine has no NVIDIA driver")
    with pytest.raises(BackendError, match="nothing to compile for: this machine has no NVIDIA"):
        missing_target(Settings(), package, nowhere)
    # What contradicts itself is told before what the machine lacks.
    for devices in (GPU, nowhere):
        with pytest.raises(BackendError, match="needs no target"):
            missing_target(Settings(backend="onnxruntime-cpu"), package, devices)


@pytest.mark.skipif(find_devices().first is not None, reason="this machine has a GPU")
def test_serve_refuses_it_in_one_line(
    package: ModelPackage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--compile", "--engines", str(package.path.parent)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("calotype: --compile has nothing to compile for: ")


@pytest.mark.parametrize(
    ("code", "target", "words"),
    [
        ("print('no room', file=__import__('sys').stderr); exit(3)", None, "(code 3): no room"),
        ("exit(0)", None, "compiling is done, and yet: why"),
    ],
)
def test_without_a_target_in_the_end_serving_goes_on_and_the_log_says_why(
    code: str, target: Target | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    workers = Listening()
    asyncio.run(preparation([sys.executable, "-c", code], target).run(workers))
    assert workers.asked == []
    assert words in caplog.text
    assert workers.told.endswith(words)


def test_a_command_that_cannot_be_started_is_told_and_serving_goes_on() -> None:
    workers = Listening()
    asyncio.run(preparation(["/nowhere/python"], None).run(workers))
    assert workers.told.endswith("No such file or directory: '/nowhere/python'")


def test_a_server_that_stops_ends_the_command(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, signal; open({str(told)!r}, 'w').write(str(os.getpid())); signal.pause()"

    async def check() -> None:
        async with preparation([sys.executable, "-c", code], None).beside(Listening()):
            while not (told.exists() and told.read_text()):
                await asyncio.sleep(0.01)

    asyncio.run(check())
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_the_worker_moves_over_between_two_jobs(
    package: ModelPackage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The job that is being drawn is finished by the worker that began it; the next one is drawn by
    another. This machine has no such GPU, and so the new worker takes the CPU again.
    """
    caplog.set_level(logging.INFO)
    command = [sys.executable, "-c", ADD_TARGET, str(package.path)]

    def choice() -> Choice:
        (found,) = target_directories(package.path)
        return chosen(read_target(found))

    async def check() -> None:
        engines, data = package.path.parent, tmp_path / "data"
        async with serving(engines, data, max_attempts=1, name="demo") as server:
            await server.supervisor.wait_ready()
            first = server.pid
            begun = await server.submit(width=64, height=64, steps=100)
            await server.reach(begun, 1)
            making = Preparation("compiling", command, "auto", choice)
            await making.run(server.supervisor)
            await server.supervisor.wait_ready()
            for job_id in (begun, await server.submit(width=64, height=64)):
                job = await server.finish(job_id)
                assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)
            assert server.pid != first
            assert server.supervisor.workers[0].restarts == 0

    asyncio.run(check())
    assert "moving over to tensorrt-11.4.0-sm_89-fp16" in caplog.text
