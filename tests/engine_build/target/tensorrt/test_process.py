"""Compilations in a process of their own: what is told of each way in which one can end."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine_build.target.profiles import Tuning
from engine_build.target.targets import Wanted, target_identity
from engine_build.target.tensorrt.engine import engine_job
from engine_build.target.tensorrt.job import EngineJob, Phase
from engine_build.target.tensorrt.process import run_job
from runtime.errors import BuildError
from runtime.package.manifest import load_package
from tests.places import ENGINES


@pytest.fixture
def job(tmp_path: Path) -> EngineJob:
    """The smallest network of the demo."""
    package = load_package(ENGINES, "demo")
    served = Tuning(((128, 128),), max_batch=1)
    wanted = Wanted("tensorrt-rtx", "sm_89", served, fixed_weights=True)
    identity = target_identity(package.manifest, wanted, "1")
    return engine_job(package, identity, "preview_decoder", tmp_path)


def test_an_engine_is_written_with_its_bindings_and_what_it_took(job: EngineJob) -> None:
    phases: list[Phase] = []
    compiled = run_job(job, phases.append)
    assert Path(job.engine).stat().st_size > 100_000
    assert compiled.inputs["latents"].shape == (-1, 4, -1, -1)
    assert (compiled.outputs["image"].dtype, compiled.outputs["image"].shape[-1]) == ("uint8", 3)
    assert compiled.seconds > 0
    assert compiled.peak_gb > 0.05
    assert {phase.step for phase in phases} >= {1, 2}
    assert all(phase.step <= phase.steps for phase in phases)


def test_the_same_job_gives_the_same_bytes(job: EngineJob, tmp_path: Path) -> None:
    run_job(job, lambda _: None)
    again = replace(job, engine=str(tmp_path / "again.engine"))
    run_job(again, lambda _: None)
    assert Path(again.engine).read_bytes() == Path(job.engine).read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compute_capability": "sm_90"}, "does not compile for sm_90; it knows sm_120"),
        ({"backend": "tensorrt"}, "tensorrt is not installed; install it with: pip install"),
        ({"refittable": ("no.such.weight",)}, "cannot make no.such.weight refittable"),
        ({"inputs": {}}, "but the manifest says {}"),
        ({"weights_folder": "/nowhere"}, "cannot read its graph"),
        ({"engine": "/nowhere/x.engine"}, "/nowhere/x.engine: No such file or directory"),
    ],
)
def test_what_cannot_be_compiled_is_named(
    job: EngineJob, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(BuildError) as failed:
        run_job(replace(job, **changes), lambda _: None)
    assert said in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.abort()", "crashed (SIGABRT), which is a fault of its own"),
        ("import os; os.kill(os.getpid(), 9)", "was killed, most likely for want of memory"),
        ("import sys; sys.exit('no license')", "ended with code 1 and no outcome"),
        ("import sys; sys.exit('no license')", "it last said: no license"),
    ],
)
def test_a_crash_is_told_from_an_error(job: EngineJob, program: str, said: str) -> None:
    with pytest.raises(BuildError) as failed:
        run_job(job, lambda _: None, child=[sys.executable, "-c", program])
    assert str(failed.value).startswith("preview_decoder: tensorrt-rtx ")
    assert said in str(failed.value)


def test_an_interruption_ends_the_child_too(job: EngineJob) -> None:
    def interrupt(_: Phase) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, interrupt)
    assert not Path(job.engine).exists()
