"""Which backend is taken on a machine, and what is said of those that are not."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from runtime.backends import rows
from runtime.backends.catalog import choose
from runtime.backends.devices import Devices, Gpu
from runtime.backends.wishes import BackendWish
from runtime.errors import BackendError
from runtime.package.engine_record import EngineCheck
from runtime.package.file_record import FileRecord
from runtime.package.manifest import ModelPackage, read_manifest
from runtime.plan.served import served_by
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target

GPU = Gpu("Imagined GPU", "sm_89", 24 * 2**30, "13.0")
HERE = Devices((GPU,), "")
NOWHERE = Devices((), "this machine has no NVIDIA driver")
UNCHECKED = Made(check=None)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    """The committed demo model, in a folder of the test's own and with no target yet."""
    ignored = shutil.ignore_patterns("targets", "loras")
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    manifest, digest = read_manifest(tmp_path / "demo")
    return ModelPackage(tmp_path / "demo", manifest, digest)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT and its kin, in one version, whatever this machine has."""
    monkeypatch.setattr(rows, "version", lambda _: "11.4.0")


def test_without_a_gpu_the_cpu_draws_and_the_reason_is_told(package: ModelPackage) -> None:
    add_target(package.path, Made())
    choice = choose(package, "auto", NOWHERE)
    assert (choice.backend, choice.target, choice.device) == ("onnxruntime-cpu", None, "cpu")
    assert (choice.target_name, choice.precision) == ("onnxruntime-cpu", "fp32")
    assert choice.note == "ONNX Runtime on the CPU; this machine has no NVIDIA driver"


def test_without_a_target_the_command_that_makes_one_is_told(package: ModelPackage) -> None:
    assert choose(package, "auto", HERE).note == (
        f"ONNX Runtime on the CPU; there is no target for {GPU}; "
        "compile one with: engine-build compile demo --backend tensorrt"
    )


@pytest.mark.parametrize(
    ("installed", "advised"),
    [
        (["tensorrt-rtx", "onnxruntime-cuda"], "tensorrt-rtx"),
        (["onnxruntime-cuda"], "onnxruntime-cuda"),
        ([], "tensorrt"),
    ],
)
def test_the_command_is_one_of_a_backend_that_is_installed(
    installed: list[str],
    advised: str,
    package: ModelPackage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(installed, monkeypatch)
    assert choose(package, "auto", HERE).note.endswith(f"compile demo --backend {advised}")


def test_a_backend_that_does_not_run_on_the_gpu_is_neither_taken_nor_advised(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(["tensorrt-rtx", "onnxruntime-cuda"], monkeypatch)
    hopper = Devices((replace(GPU, compute_capability="sm_90"),), "")
    fault = "tensorrt-rtx does not run on sm_90: it is for the RTX line"
    note = choose(package, "auto", hopper).note
    assert f"compile demo --backend onnxruntime-cuda; passed over {fault}" in note
    with pytest.raises(BackendError, match=f"for demo: {fault}"):
        choose(package, "tensorrt-rtx", hopper)
    target = add_target(package.path, Made(backend="tensorrt-rtx", compute_capability="sm_90"))
    assert f"passed over {target.name}: {fault}" in choose(package, "auto", hopper).note


def test_the_best_that_can_run_is_taken_and_the_others_are_named(package: ModelPackage) -> None:
    rtx = add_target(package.path, Made(backend="tensorrt-rtx"))
    slow = add_target(package.path, Made(samples=2, milliseconds=9.0))
    fast = add_target(package.path, Made(milliseconds=5.0))
    choice = choose(package, "auto", HERE)
    assert choice.target == fast
    assert (choice.backend, choice.gpu, choice.device) == ("tensorrt", GPU, "Imagined GPU")
    assert (choice.target_name, choice.precision) == (fast.name, "fp16")
    assert f"passed over {slow.name}: a step takes 9.0 ms, not 5.0" in choice.note
    assert f"passed over {rtx.name}: tensorrt comes first" in choice.note
    assert "\n" not in choice.note


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (Made(compute_capability="sm_120"), "it is for sm_120, and this machine has Imagined GPU"),
        (
            Made(version="10.13"),
            "it was compiled by tensorrt 10.13, and 11.4.0 is installed; compile it again with: ",
        ),
        (UNCHECKED, "it has not run on a GPU yet; verify it with: engine-build verify demo "),
        (
            Made(check=EngineCheck(0.5, 0.01, {})),
            "its denoiser is off by 0.5, at most 0.01 is allowed",
        ),
        (
            Made(check=EngineCheck(0.001, 0.01, {}, refit_error=0.2)),
            "its denoiser is off by 0.2, at most 0.01 is allowed",
        ),
    ],
    ids=["another gpu", "another version", "unverified", "wrong", "wrong when refitted"],
)
def test_what_cannot_serve_is_passed_over_and_refused_when_it_was_asked_for(
    made: Made, reason: str, package: ModelPackage
) -> None:
    target = add_target(package.path, made)
    choice = choose(package, "auto", HERE)
    assert choice.target is None
    assert f"passed over {target.name}: {reason}" in choice.note
    with pytest.raises(BackendError) as refusal:
        choose(package, "tensorrt", HERE)
    assert str(refusal.value).startswith("--backend tensorrt cannot be had for demo: ")
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", ["another graph", "other weights"])
def test_a_target_of_other_files_is_stale(part: str, package: ModelPackage) -> None:
    add_target(package.path, Made())
    role = package.manifest.roles["vae_decoder"]
    name = role.graph if part == "another graph" else role.weights
    assert name is not None
    files = {**package.manifest.files, name: FileRecord("0" * 64, 1)}
    changed = replace(package, manifest=replace(package.manifest, files=files))
    note = choose(changed, "auto", HERE).note
    assert f"vae_decoder was compiled from {part}" in note
    assert "compile it again with: engine-build compile demo" in note


def test_a_target_that_does_not_fit_says_what_would(package: ModelPackage) -> None:
    add_target(package.path, Made())
    small = Devices((replace(GPU, memory_bytes=100),), "")
    with pytest.raises(BackendError, match=r"its engines take .* --backend onnxruntime-cpu"):
        choose(package, "tensorrt", small)


def test_weights_that_lie_outside_of_the_engines_count(package: ModelPackage) -> None:
    target = add_target(package.path, Made(backend="onnxruntime-cuda"))
    engines = sum(each.content.size_bytes for each in target.record.engines.values())
    small = Devices((replace(GPU, memory_bytes=engines + 100),), "")
    with pytest.raises(BackendError, match=r"its engines take .* --backend onnxruntime-cpu"):
        choose(package, "onnxruntime-cuda", small)


def test_a_target_that_cannot_be_read_is_passed_over_by_name(package: ModelPackage) -> None:
    target = add_target(package.path, Made())
    record = target.path / "target.json"
    record.write_text(record.read_text().replace("a test", "a lie"))
    assert "its digest does not fit" in choose(package, "auto", HERE).note


def test_the_backend_that_was_asked_for_wins_over_a_better_one(package: ModelPackage) -> None:
    add_target(package.path, Made())
    rtx = add_target(package.path, Made(backend="tensorrt-rtx"))
    assert choose(package, "tensorrt-rtx", HERE).target == rtx
    assert choose(package, "onnxruntime-cpu", HERE).target is None


@pytest.mark.parametrize("wish", [row.name for row in rows.TARGET_BACKENDS])
def test_what_is_not_there_is_refused_in_a_line_that_says_how_to_get_it(
    wish: BackendWish, package: ModelPackage
) -> None:
    with pytest.raises(BackendError, match=f"engine-build compile demo --backend {wish}$"):
        choose(package, wish, HERE)
    with pytest.raises(BackendError, match="no NVIDIA driver; draw with --backend onnxruntime-cpu"):
        choose(package, wish, NOWHERE)


def test_what_is_not_installed_is_said(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_target(package.path, Made())
    only([], monkeypatch)
    assert "tensorrt is not installed" in choose(package, "auto", HERE).note


@pytest.mark.parametrize(("samples", "evaluations"), [(1, 2), (3, 6)])
def test_a_target_bounds_batches_and_sizes(
    samples: int, evaluations: int, package: ModelPackage
) -> None:
    sizes = ((128, 128), (192, 64))
    served = served_by(
        add_target(package.path, Made(samples=samples, sizes=sizes)), package.manifest
    )
    assert (served.limits.samples, served.limits.evaluations) == (samples, evaluations)
    assert served.tuned == sizes
    assert [str(each) for each in served.sizes] == ["128x128", "192x64"]
    assert served.fixed_weights is None
    limits = package.manifest.limits
    everything = served_by(None, package.manifest)
    assert everything.limits.samples == limits.max_batch
    assert (everything.tuned, everything.sizes) == ((), ())


def test_fixed_weights_are_said(package: ModelPackage) -> None:
    target = add_target(package.path, Made(fixed_weights=True))
    assert "--fixed-weights" in (served_by(target, package.manifest).fixed_weights or "")


def only(installed: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which these backends are installed."""
    brought = {each for name in installed for each in rows.row_of(name).distributions}

    def version(distribution: str) -> str:
        if distribution in brought:
            return "11.4.0"
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(rows, "version", version)
