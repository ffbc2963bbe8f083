"""The choice of the backend that draws on the CPU, by what is installed and a trial's outcome."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from engine_build.package.tolerances import ENGINES as ENGINES_MAY
from runtime.backends import cpu_trials, rows
from runtime.backends.catalog import Choice, awaiting_trial, choose
from runtime.backends.cpu_trials import (
    TOLERANCE,
    CpuTrial,
    Outcome,
    conditions,
    keep_trial,
    kept_trial,
)
from runtime.backends.devices import Devices
from runtime.backends.wishes import CpuPrecision
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, read_manifest
from tests.places import ENGINES

NOWHERE = Devices((), "this machine has no NVIDIA driver")


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    folder = tmp_path / "demo"
    folder.mkdir()
    shutil.copy(ENGINES / "demo" / "manifest.json", folder)
    manifest, digest = read_manifest(folder)
    return ModelPackage(folder, manifest, digest)


@pytest.fixture(autouse=True)
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The installed distributions, which a test may change; the cache is the test's own."""
    monkeypatch.setenv("CALOTYPE_CACHE", str(tmp_path / "cache"))
    installed = {"onnxruntime": "1.31.1", "openvino": "2026.4.1"}

    def version(distribution: str) -> str:
        if distribution not in installed:
            raise PackageNotFoundError(distribution)
        return installed[distribution]

    monkeypatch.setattr(rows, "version", version)
    return installed


def tried(
    package: ModelPackage,
    outcomes: Sequence[tuple[float, float]],
    wish: str = "auto",
    precision: CpuPrecision = "fp32",
) -> None:
    """Keep a trial with these outcomes: seconds and error, way by way."""
    ways = awaiting_trial(package, wish, NOWHERE, precision)  # type: ignore[arg-type]
    assert len(ways) == len(outcomes)
    found = {str(way): Outcome(*each) for way, each in zip(ways, outcomes, strict=True)}
    keep_trial(package, ways, CpuTrial(conditions(package, ways), found))


def chosen(package: ModelPackage, precision: CpuPrecision = "fp32") -> Choice:
    return choose(package, "auto", NOWHERE, precision)


def test_with_one_backend_nothing_is_tried(package: ModelPackage, both: dict[str, str]) -> None:
    del both["openvino"]
    assert awaiting_trial(package, "auto", NOWHERE, "fp32") == []
    assert chosen(package).backend == "onnxruntime-cpu"
    assert not Path(package.path.parent / "cache").exists()


@pytest.mark.parametrize(
    ("seconds", "backend"), [((0.3, 0.4), "openvino-cpu"), ((0.4, 0.3), "onnxruntime-cpu")]
)
def test_the_faster_one_is_taken_and_both_times_are_told(
    seconds: tuple[float, float], backend: str, package: ModelPackage
) -> None:
    assert chosen(package).backend == "onnxruntime-cpu"  # as long as nobody knows
    tried(package, [(seconds[0], 1e-6), (seconds[1], 0.0)])
    assert awaiting_trial(package, "auto", NOWHERE, "fp32") == []
    choice = chosen(package)
    assert (choice.backend, choice.precision, choice.target) == (backend, "fp32", None)
    for part in (f"{seconds[0]} s by openvino-cpu", f"{seconds[1]} s by onnxruntime-cpu"):
        assert part in choice.note
    assert choice.note.endswith("; this machine has no NVIDIA driver")


def test_one_that_is_wrong_is_not_taken(package: ModelPackage) -> None:
    tried(package, [(0.1, 0.2), (0.4, 0.0)])
    choice = chosen(package)
    assert choice.backend == "onnxruntime-cpu"
    assert "passed over openvino-cpu in fp32, which is off by 0.2 " in choice.note


@pytest.mark.parametrize("change", ["version", "processor", "package", "format", "damage"])
def test_a_trial_under_other_conditions_does_not_count(
    change: str,
    package: ModelPackage,
    both: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    tried(package, [(0.3, 0.0), (0.4, 0.0)])
    ways = [rows.row_of(name) for name in ("openvino-cpu", "onnxruntime-cpu")]
    assert kept_trial(package, [cpu_trials.Way(row) for row in ways]) is not None
    if change == "version":
        both["openvino"] = "2027.1.0"
    if change == "processor":
        monkeypatch.setattr(cpu_trials, "processor", lambda: "another, 64 cores")
    if change == "package":
        package = replace(package, digest=package.digest[:16] + "0" * 48)
    if change == "format":
        monkeypatch.setattr(cpu_trials, "_FORMAT", 99)
    if change == "damage":
        (file,) = (tmp_path / "cache" / "cpu_trials").iterdir()
        file.write_bytes(file.read_bytes()[:50])
    assert len(awaiting_trial(package, "auto", NOWHERE, "fp32")) == 2
    assert chosen(package).backend == "onnxruntime-cpu"


def test_a_cache_that_cannot_be_written_is_no_error(
    package: ModelPackage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    tried(package, [(0.3, 0.0), (0.4, 0.0)])
    assert "cannot be kept" in caplog.text
    assert len(awaiting_trial(package, "auto", NOWHERE, "fp32")) == 2


def test_what_is_asked_for_by_name_draws(package: ModelPackage, both: dict[str, str]) -> None:
    tried(package, [(0.3, 0.0), (0.4, 0.0)])
    choice = choose(package, "onnxruntime-cpu", NOWHERE)
    assert (choice.backend, choice.note) == (
        "onnxruntime-cpu",
        "ONNX Runtime on the CPU, as asked for",
    )
    assert choose(package, "openvino-cpu", NOWHERE).note == "OpenVINO on the CPU, as asked for"
    del both["openvino"]
    missing = "--backend openvino-cpu cannot be had for demo: openvino is not installed; install"
    with pytest.raises(BackendError, match=missing):
        choose(package, "openvino-cpu", NOWHERE)


def test_an_error_is_allowed_as_an_engines_is() -> None:
    assert {name: ENGINES_MAY[name] for name in TOLERANCE} == TOLERANCE


@pytest.mark.parametrize("wish", ["auto", "openvino-cpu"])
def test_bf16_draws_once_it_was_held_to_fp32(wish: str, package: ModelPackage) -> None:
    tried(package, [(0.2, 0.03), (0.3, 0.0)], wish, "bf16")
    choice = choose(package, wish, NOWHERE, "bf16")  # type: ignore[arg-type]
    assert (choice.backend, choice.precision) == ("openvino-cpu", "bf16")
    assert "in bf16" in choice.note
    assert "0.2 s by openvino-cpu in bf16, 0.3 s by openvino-cpu in fp32" in choice.note


def test_bf16_that_is_off_is_refused_with_its_error(package: ModelPackage) -> None:
    tried(package, [(0.2, 0.16), (0.3, 0.0)], "auto", "bf16")
    with pytest.raises(BackendError, match=r"off by 0\.16 .* 0\.05 is .*--cpu-precision fp32$"):
        chosen(package, "bf16")


def test_bf16_without_a_backend_for_it_names_the_remedy(
    package: ModelPackage, both: dict[str, str]
) -> None:
    with pytest.raises(BackendError, match="computes in fp32 alone; take --backend openvino-cpu"):
        choose(package, "onnxruntime-cpu", NOWHERE, "bf16")
    del both["openvino"]
    with pytest.raises(BackendError, match=r"^--cpu-precision bf16 .*pip install openvino;"):
        chosen(package, "bf16")


def test_weights_left_in_place_are_for_onnx_runtime(package: ModelPackage) -> None:
    roles = {
        name: replace(role, weights=None, external_folder="/checkpoints/x")
        for name, role in package.manifest.roles.items()
    }
    left = replace(package, manifest=replace(package.manifest, roles=roles))
    assert awaiting_trial(left, "auto", NOWHERE, "fp32") == []
    assert chosen(left).backend == "onnxruntime-cpu"
    with pytest.raises(BackendError, match=r"left in /checkpoints/x.* without --in-place"):
        choose(left, "openvino-cpu", NOWHERE)
