"""Targets from real packages by the real compiler of TensorRT for RTX, which needs no GPU."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from engine_build.target.compile import CompileRequest, check_room, compile_target, nearest
from engine_build.target.compiler import COMPILERS
from engine_build.target.onnxruntime_cuda import VERSION
from engine_build.target.profiles import Tuning
from engine_build.target.reference import Reference
from engine_build.target.targets import Wanted, takes_loras, target_identity
from engine_build.target.tensorrt.compiler import parse
from engine_build.target.tensorrt.engine import TensorRtCompiler, engine_job
from runtime.backends.tensorrt.flavour import installed_flavour
from runtime.backends.tensorrt.log import VendorLog
from runtime.errors import BuildError, PackageError
from runtime.package.backend_name import BackendName
from runtime.package.engine_record import Binding, EngineRecord, Variant
from runtime.package.manifest import InputRecord, ModelPackage, load_package
from runtime.package.target import FOLDER, TF32, Target, TargetIdentity, read_target
from tests.places import ENGINES

COMMAND = Path(sys.executable).parent / "engine-build"

SIZE = (64, 96)
PACKAGES = {
    "tiny": "fp16",
    "tiny_flux": "bf16",
    "tiny_schnell": "bf16",
    "tiny_chroma": "bf16",
    "tiny_zimage": "bf16",
}
GPUS = ("sm_86", "sm_89", "sm_120")


def request_of(engines: Path, name: str, **changes: Any) -> CompileRequest:
    """Small pictures, one at once, with no GPU at hand."""
    fields = {
        "backend": "tensorrt-rtx",
        "compute_capability": "sm_89",
        "served": Tuning((SIZE,), max_batch=1),
        "fixed_weights": True,
    }
    wanted = Wanted(**{**fields, **changes})
    reference = Reference(load_package(engines, name), [SIZE])
    return CompileRequest(reference, wanted, gpu_at_hand=None, machine="a test")


def binding(record: InputRecord) -> Binding:
    extents = (-1 if isinstance(extent, str) else extent for extent in record.shape)
    return Binding(record.dtype, tuple(extents))


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("name", PACKAGES)
def test_every_role_of_every_line_compiles_for_every_gpu(
    request: pytest.FixtureRequest, name: str, gpu: str
) -> None:
    engines: Path = request.getfixturevalue(f"{name}_package")
    asked = request_of(engines, name, compute_capability=gpu)
    target = compile_target(asked, show_progress=False)
    manifest = load_package(engines, name).manifest
    record = target.record
    assert record.identity == target_identity(
        manifest, asked.wanted, installed_flavour("tensorrt-rtx").version
    )
    assert record.identity.compute_capability == gpu
    assert set(record.engines) == set(manifest.roles)
    for role, engine in record.engines.items():
        assert engine.file == f"{role}.engine"
        assert target.engine(role).stat().st_size == engine.content.size_bytes > 10_000
        assert engine.inputs == {
            each: binding(found) for each, found in manifest.roles[role].inputs.items()
        }
        assert record.identity.engines[role].precision == manifest.roles[role].precision
    assert record.identity.engines["denoiser"].precision == PACKAGES[name]
    assert record.identity.engines["vae_decoder"].precision == "fp32"
    assert not record.verified
    assert target.path == engines / name / FOLDER / record.identity.name


VARIANTS = {
    "denoiser": {"matrices": "denoiser.matrices.onnx", "weights": "denoiser.weights.onnx"},
    "text_encoder": {"matrices": "text_encoder.matrices.onnx"},
    "text_encoder_2": {"matrices": "text_encoder_2.matrices.onnx"},
}
"""Of those roles that LoRAs lie on; text encoders have no convolutions."""

PRELUDES = {
    "denoiser": {
        "denoiser.prelude.onnx",
        "denoiser.prelude.matrices.onnx",
        "denoiser.prelude.weights.onnx",
    }
}
VARIANTS_OF: tuple[Variant | None, ...] = (None, "matrices", "weights")


def test_graphs_for_onnx_runtime_on_cuda_are_a_target_like_the_others(demo: Path) -> None:
    """Written and held to the package's own on the CPU; LoRAs find their weights in it."""
    served = Tuning(((64, 64),), 1)
    asked = request_of(demo, "demo", backend="onnxruntime-cuda", served=served, fixed_weights=False)
    target = compile_target(asked, show_progress=False)
    manifest = load_package(demo, "demo").manifest
    assert target.name.startswith(f"onnxruntime-cuda-{version('onnxruntime')}-sm_89-fp16-")
    for role, engine in target.record.engines.items():
        assert engine.file == f"{role}.onnx"
        assert engine.inputs == {
            each: binding(found) for each, found in manifest.roles[role].inputs.items()
        }
        written = {variant: target.variant(role, variant).name for variant in engine.variants}
        assert written == VARIANTS.get(role, {})
        assert target.fault(role) is None
        beside = {each and each.name for each in map(partial(target.prelude, role), VARIANTS_OF)}
        assert beside == PRELUDES.get(role, {None})
    identity = target.record.identity.engines["denoiser"]
    assert len(identity.refittable) > 100
    assert identity.flags == (f"fusions {VERSION}",)
    # In fp32 for its range, not for its digits.
    assert target.record.identity.engines["vae_decoder"].flags == (f"fusions {VERSION}", TF32)
    assert not target.record.verified


@pytest.mark.parametrize(
    ("backend", "expected"), [("tensorrt-rtx", True), ("tensorrt", False)], ids=str
)
def test_engines_that_may_allocate_while_they_run_are_told_not_to(
    backend: BackendName, expected: bool
) -> None:
    """It takes a flag, which only TensorRT for RTX has."""
    wanted = replace(request_of(ENGINES, "demo").wanted, backend=backend)
    identity = target_identity(load_package(ENGINES, "demo").manifest, wanted, "1.0")
    for engine in identity.engines.values():
        assert ("REQUIRE_USER_ALLOCATION" in engine.flags) is expected


@pytest.mark.parametrize(("engines", "name"), [(ENGINES, "demo")])
def test_every_weight_that_a_lora_may_name_is_refittable(engines: Path, name: str) -> None:
    """Asked of the real parser; whether an engine has it so, only a GPU can show."""
    package = load_package(engines, name)
    flavour = installed_flavour("tensorrt-rtx")
    api = flavour.load()
    wanted = replace(request_of(engines, name).wanted, fixed_weights=False)
    wanted = replace(wanted, served=Tuning(((128, 128),), 1))
    identity = target_identity(package.manifest, wanted, flavour.version)
    asked = 0
    for role, engine in identity.engines.items():
        assert bool(engine.refittable) is takes_loras(role, package.manifest)
        if not engine.refittable:
            continue
        log = VendorLog(api)
        network = api.Builder(log.logger).create_network(0)
        parser = parse(api, network, log, engine_job(package, identity, role, Path("x")))
        assert parser.num_errors == 0
        parameters = package.manifest.roles[role].parameters.values()
        named = [each.initializer for each in parameters if each.replaceable]
        assert sorted(named) == list(engine.refittable)
        assert all(network.mark_weights_refittable(each) for each in named)
        assert not network.mark_weights_refittable("no.such.weight")
        asked += len(named)
    assert asked > 200


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """An engines folder with the demo in it, and no target."""
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns(FOLDER))
    return tmp_path


def compiling(engines: Path) -> list[str]:
    arguments = ["compile", "demo", "--engines", str(engines), "--gpu", "sm_89"]
    return [str(COMMAND), *arguments, "--backend", "tensorrt-rtx", "--fixed-weights"]


def finished(engines: Path) -> dict[str, int]:
    """The inodes of the engines that have their record beside them."""
    (folder,) = (engines / "demo" / FOLDER).glob(".*.compiling")
    records = [path for path in folder.glob("*.json") if not path.name.startswith(".")]
    return {path.stem: path.with_suffix(".engine").stat().st_ino for path in records}


def lines(process: "subprocess.Popen[str]") -> IO[str]:
    assert process.stderr is not None
    return process.stderr


ROLES = ["denoiser", "preview_decoder", "text_encoder", "text_encoder_2", "vae_decoder"]


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_what_was_finished_when_it_was_ended_is_never_compiled_again(
    demo: Path, ended_by: signal.Signals
) -> None:
    """Ended in the middle of each role, one run after another, then left to finish."""
    kept: dict[str, int] = {}
    for number, role in enumerate(ROLES):
        with subprocess.Popen(compiling(demo), stderr=subprocess.PIPE, text=True) as process:
            for line in lines(process):
                # Its child is at work: the compiler itself has said so.
                if line.startswith(f"{role}: "):
                    break
            (child,) = psutil.Process(process.pid).children()
            process.send_signal(ended_by)
            rest = "".join(lines(process))
        child.wait(timeout=60)
        now = finished(demo)
        assert sorted(now) == ROLES[:number]
        assert {each: now[each] for each in kept} == kept
        kept = now
        if ended_by is signal.SIGINT:
            assert process.returncode == 1
            assert "interrupted; finished engines are kept" in rest.splitlines()[-1]
    done = subprocess.run(compiling(demo), capture_output=True, text=True, check=True)
    assert "denoiser: kept" in done.stderr
    assert "vae_decoder: compile" in done.stderr
    (target,) = (demo / "demo" / FOLDER).iterdir()
    assert {each: (target / f"{each}.engine").stat().st_ino for each in kept} == kept
    assert sorted(read_target(target).record.engines) == ROLES
    assert "not verified yet; on its GPU: engine-build verify demo" in done.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A target of the demo's."""
    engines = tmp_path_factory.mktemp("engines")
    shutil.copytree(ENGINES / "demo", engines / "demo", ignore=shutil.ignore_patterns(FOLDER))
    asked = request_of(engines, "demo", served=Tuning(((128, 128),), 1))
    return compile_target(asked, show_progress=False)


def again(target: Target, **changes: Any) -> CompileRequest:
    engines = target.path.parents[2]
    return request_of(engines, "demo", **{"served": Tuning(((128, 128),), 1), **changes})


def test_a_target_that_is_there_is_not_compiled_again(compiled: Target) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in compiled.path.iterdir()}
    assert compile_target(again(compiled), show_progress=False).record == compiled.record
    assert {path.name: path.stat().st_mtime_ns for path in compiled.path.iterdir()} == before


def test_what_is_there_in_its_place_is_told_with_how_it_differs(compiled: Target) -> None:
    assert nearest(again(compiled)) is None
    assert nearest(again(compiled, compute_capability="sm_86")) is None
    larger = again(compiled, served=Tuning(((160, 160),), 1))
    assert (said := nearest(larger)) is not None
    assert said.startswith(f"{compiled.name} is there, but denoiser takes other sizes or batches")
    assert "text_encoder" not in said


def said(engines: Path, *arguments: str) -> str:
    command = [COMMAND, *arguments, "--engines", engines]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_targets_are_listed_with_their_state(compiled: Target) -> None:
    engines = compiled.path.parents[2]
    (heading, line) = said(engines, "targets", "demo").splitlines()
    assert heading.split() == ["TARGET", "GPU", "PRECISION", "ON", "DISK", "LORAS", "STATE"]
    assert line.split()[:3] == [compiled.name, "sm_89", "fp16"]
    assert line.endswith("no     not verified")


def test_a_target_is_described_engine_by_engine(compiled: Target) -> None:
    described = said(compiled.path.parents[2], "inspect", "demo", compiled.name)
    assert "made by      engine-build compile demo --backend tensorrt-rtx --gpu sm_89" in described
    assert "vae_decoder      fp32" in described
    profile = "batch 1, evaluations 2, height 16, tokens 32 to 128 (best 32), width 16"
    assert f"denoiser, profile 0: {profile}" in described
    assert f"every engine is as it was compiled; identity {compiled.record.identity.digest}" in (
        described
    )


def test_an_engine_that_was_damaged_is_named(compiled: Target, tmp_path: Path) -> None:
    engines = tmp_path / "engines"
    shutil.copytree(compiled.path.parents[2], engines)
    engine = engines / "demo" / FOLDER / compiled.name / "vae_decoder.engine"
    content = bytearray(engine.read_bytes())
    content[1000] ^= 1
    engine.write_bytes(content)
    with pytest.raises(PackageError, match=r"vae_decoder\.engine: changed, sha256"):
        compile_target(
            request_of(engines, "demo", served=Tuning(((128, 128),), 1)), show_progress=False
        )


def test_no_room_is_told_before_any_work(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(demo)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(BuildError, match=r"the engines take some 0\.01 GB, but 0\.00 GB are free"):
        compile_target(request_of(demo, "demo", served=Tuning(((128, 128),), 1)))
    assert unfinished(demo) == []


def unfinished(engines: Path) -> list[str]:
    """The listing of compilations that can go on."""
    listed = said(engines, "targets", "demo").splitlines()
    return [line for line in listed if "UNFINISHED" in line]


def test_one_that_was_refused_is_not_listed_as_unfinished(demo: Path) -> None:
    """The compiler itself refuses that GPU, when it is asked for the first engine."""
    asked = request_of(demo, "demo", compute_capability="sm_90")
    with pytest.raises(BuildError, match="does not compile for sm_90"):
        compile_target(asked, show_progress=False)
    assert unfinished(demo) == []
    assert said(demo, "targets", "demo").startswith("demo has no targets; compile one with: ")


def test_one_that_fails_behind_a_finished_engine_keeps_it(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TensorRtCompiler.compile

    def failing(
        self: TensorRtCompiler,
        package: ModelPackage,
        identity: TargetIdentity,
        role: str,
        *rest: Any,
    ) -> EngineRecord:
        if role != "denoiser":
            raise BuildError(f"{role}: no kernel")
        return real(self, package, identity, role, *rest)

    monkeypatch.setattr(TensorRtCompiler, "compile", failing)
    with pytest.raises(BuildError, match="no kernel"):
        compile_target(request_of(demo, "demo"), show_progress=False)
    assert list(finished(demo)) == ["denoiser"]
    assert len(unfinished(demo)) == 1


def test_too_little_memory_is_told_before_any_work(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = psutil.virtual_memory()._replace(available=1_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(BuildError, match=r"denoiser: compiling it takes some 0\.0 GB of memory"):
        compile_target(request_of(demo, "demo", served=Tuning(((128, 128),), 1)))
    assert unfinished(demo) == []


def test_a_graph_takes_little_room_since_its_weights_stay_in_their_files(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_package(demo, "demo").manifest
    half = manifest.roles["denoiser"].weights_bytes // 2
    little = psutil.virtual_memory()._replace(available=half)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    check_room(manifest, ["denoiser"], demo, COMPILERS["onnxruntime-cuda"].room)
    with pytest.raises(BuildError, match="denoiser: compiling it takes some"):
        check_room(manifest, ["denoiser"], demo, COMPILERS["tensorrt"].room)


def test_two_compilations_of_one_target_do_not_meet(demo: Path) -> None:
    with subprocess.Popen(compiling(demo), stderr=subprocess.PIPE, text=True) as first:
        next(line for line in lines(first) if "denoiser: compile" in line)
        second = subprocess.run(compiling(demo), capture_output=True, text=True, check=False)
        os.kill(first.pid, signal.SIGKILL)
    assert second.returncode == 1
    assert "is being compiled already; wait for it to end" in second.stderr


REFUSED = {
    "no GPU": (["compile", "demo"], "--gpu auto: this machine has no NVIDIA driver; name the GPU"),
    "GPU unknown": (
        ["compile", "demo", "--gpu", "sm_90", "--fixed-weights", "--backend", "tensorrt-rtx"],
        "tensorrt-rtx does not run on sm_90: it is for the RTX line (sm_75, sm_80, sm_86, sm_89",
    ),
    "not installed": (
        ["compile", "demo", "--gpu", "sm_89", "--backend", "tensorrt"],
        "tensorrt is not installed; install it with: pip install tensorrt",
    ),
    "LoRAs need a GPU": (
        ["compile", "demo", "--gpu", "sm_89", "--backend", "tensorrt-rtx"],
        "only on a machine with a GPU; compile there, or with --fixed-weights",
    ),
    "size": (
        ["compile", "demo", "--gpu", "sm_89", "--fixed-weights", "--sizes", "100x100"],
        "--sizes 100x100: demo takes sides of 64 to 160 pixels, multiples of 32",
    ),
    "no such target": (
        ["inspect", "demo", "x"],
        "demo has no target 'x' (found: none); compile one with: engine-build compile demo",
    ),
    "no such package": (
        ["verify", "nosuch", "x"],
        "model 'nosuch' is not in",
    ),
    "verify without a GPU": (
        ["verify", "demo", "x"],
        "demo has no target 'x' (found: none)",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_one_line(demo: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [COMMAND, *arguments, "--engines", demo, *(["--quiet"] if "compile" in arguments else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
