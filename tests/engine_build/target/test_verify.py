"""Verification: what is measured, what it is measured on, and that a failure keeps a target out.

The device is a stand-in that runs the very graphs that engines are compiled from, on the CPU.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.target.precision import typed_graph
from engine_build.target.profiles import Tuning
from engine_build.target.reference import Reference
from engine_build.target.stacking import stacked
from engine_build.target.targets import Wanted, target_identity
from engine_build.target.verify import (
    UNUSABLE,
    compared,
    extents,
    verified,
    verify_target,
)
from runtime.backends.onnxruntime.cpu import open_session
from runtime.backends.protocol import Array
from runtime.errors import BuildError
from runtime.package.engine_record import EngineRecord
from runtime.package.file_record import FileRecord
from runtime.package.manifest import ModelPackage, Precision, load_package
from runtime.package.target import (
    FOLDER,
    Target,
    TargetRecord,
    read_target,
    tuned_sizes,
    write_target,
)
from tests.places import ENGINES

SERVED = Tuning(((64, 96), (64, 64)), max_batch=1)
WANTED = Wanted("tensorrt-rtx", "sm_89", SERVED, fixed_weights=True)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    """The demo, with one target: its record, and no engine that anybody would open."""
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns(FOLDER))
    package = load_package(tmp_path, "demo")
    identity = target_identity(package.manifest, WANTED, "1.0")
    engine = EngineRecord("x.engine", FileRecord("0" * 64, 1), {}, {}, 1.0, 1.0)
    record = TargetRecord(identity, dict.fromkeys(identity.engines, engine), "a test", "a command")
    folder = package.path / FOLDER / identity.name
    folder.mkdir(parents=True)
    write_target(folder, record)
    return package


def target_of(package: ModelPackage) -> Target:
    (folder,) = (package.path / FOLDER).iterdir()
    return read_target(folder)


def reference_of(package: ModelPackage) -> Reference:
    return Reference(package, SERVED.sizes)


@dataclass(frozen=True)
class Device:
    """Opens engines; `off` is added to what those of a role answer, of its largest magnitude."""

    package: ModelPackage
    off: Mapping[str, float]
    on_it: list[str] = field(default_factory=list)
    """The roles that are open now."""

    def open(self, target: Target, role: str) -> "Opened":
        assert not self.on_it, "a device may have room for one at a time"
        self.on_it.append(role)
        record = self.package.manifest.roles[role]
        names = [each.initializer for each in record.parameters.values()]
        precision = target.record.identity.engines[role].precision
        model = typed_graph(ir.load(self.package.file(record.graph)), precision, names)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        content = ir.to_proto(model).SerializeToString()
        session = open_session(content, options, self.package.path)
        return Opened(session, self.off.get(role, 0.0), self.on_it.clear)


@dataclass(frozen=True)
class Opened:
    session: onnxruntime.InferenceSession
    off: float
    close: Callable[[], None]

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        names = [output.name for output in self.session.get_outputs()]
        found = self.session.run(names, dict(inputs))
        return {
            name: array + array.dtype.type(self.off * np.abs(array).max())
            for name, array in zip(names, found, strict=True)
        }

    def milliseconds(self, inputs: Mapping[str, Array]) -> float:
        return float(sum(array.size for array in inputs.values()))


def test_a_target_that_answers_as_its_graphs_do_is_verified(package: ModelPackage) -> None:
    device = Device(package, {})
    verified = verify_target(reference_of(package), target_of(package), device.open)
    assert device.on_it == []
    assert verified.record.verified
    assert verified.record == target_of(package).record
    checks = {role: engine.check for role, engine in verified.record.engines.items()}
    assert {"next_latents", "next_history", "predicted"} == set(checks["denoiser"].outputs)
    assert 0 < checks["denoiser"].largest_error < 2e-2
    assert checks["vae_decoder"].largest_error == 0
    # Both sizes, and with and without guidance: a time for each.
    times = verified.record.engines["denoiser"].step_times
    found = {(time.axes["height"], time.axes["width"], time.axes["evaluations"]) for time in times}
    assert found == {(12, 8, 2), (12, 8, 1), (8, 8, 2), (8, 8, 1)}
    assert all(time.milliseconds > 0 for time in times)


@pytest.mark.parametrize("off", [0.1, float("nan")])
def test_one_that_is_off_stays_out_of_service_and_says_by_how_much(
    package: ModelPackage, off: float
) -> None:
    device = Device(package, {"text_encoder": off})
    with pytest.raises(BuildError, match=r"text_encoder is off by .* allowed is 2\.0e-02; the tar"):
        verify_target(reference_of(package), target_of(package), device.open)
    record = target_of(package).record
    assert not record.verified
    assert record.engines["text_encoder"].check is not None
    assert record.engines["text_encoder"].check.largest_error > 0.05
    assert record.engines["vae_decoder"].check is not None
    assert record.engines["vae_decoder"].check.passed


def test_a_refittable_engine_that_differs_from_a_fixed_one_stays_out(package: ModelPackage) -> None:
    """The build without the flag is a real one; what it answers, the stand-in says."""
    target = target_of(package)
    identity = target.record.identity
    encoder = replace(
        identity.engines["text_encoder"],
        refittable=("text_model.encoder.layers.0.mlp.fc1.weight",),
        flags=("REFIT_INDIVIDUAL",),
    )
    engines = {**identity.engines, "text_encoder": encoder}
    refittable = replace(target.record, identity=replace(identity, engines=engines))
    write_target(target.path, refittable)
    plain = Device(package, {})
    other = replace(plain, off={"text_encoder": 0.05})

    def opened(of: Target, role: str) -> Opened:
        fixed = not of.record.identity.engines[role].refittable and of.path != target.path
        if fixed:
            content = of.record.engines[role].content
            assert of.engine(role).stat().st_size == content.size_bytes > 10_000
        return (other if fixed else plain).open(of, role)

    with pytest.raises(BuildError, match=r"from itself compiled with fixed weights, allowed"):
        verify_target(reference_of(package), target_of(package), opened)
    check = target_of(package).record.engines["text_encoder"].check
    assert check is not None
    assert check.largest_error <= check.tolerance
    assert check.refit_error is not None
    assert check.refit_error > check.tolerance


def test_several_samples_in_one_call_are_each_what_they_are_alone(package: ModelPackage) -> None:
    role = package.manifest.roles["denoiser"]
    (call, *_) = Reference(package, [(64, 96)]).calls["denoiser"]
    opened = Device(package, {}).open(target_of(package), "denoiser")
    alone = opened.run(call.inputs)
    for name, array in opened.run(stacked(role, call.inputs, 3)).items():
        assert len(array) == 3
        for sample in array:
            np.testing.assert_allclose(sample, alone[name][0], rtol=0, atol=1e-2)


def test_batches_are_timed_up_to_the_largest_that_an_engine_takes(package: ModelPackage) -> None:
    role = package.manifest.roles["denoiser"]
    calls = Reference(package, [(64, 64)]).calls["denoiser"]
    opened = Device(package, {}).open(target_of(package), "denoiser")
    engine = target_of(package).record.engines["denoiser"]
    found = verified(
        role, engine, "fp16", calls, opened=opened, fixed=None, largest_batch=3
    ).step_times
    guided = [time.axes for time in found if time.axes["evaluations"] == 2 * time.axes["batch"]]
    assert [axes["batch"] for axes in guided] == [1, 2, 3]


def test_a_stale_target_is_not_verified(package: ModelPackage) -> None:
    target = target_of(package)
    identity = target.record.identity
    old = replace(identity.engines["denoiser"], graph_sha256="1" * 64)
    engines = {**identity.engines, "denoiser": old}
    write_target(target.path, replace(target.record, identity=replace(identity, engines=engines)))
    with pytest.raises(BuildError, match="denoiser was compiled from another graph; compile it ag"):
        verify_target(reference_of(package), target_of(package), Device(package, {}).open)


def test_calls_are_those_of_the_sizes_that_engines_are_for(package: ModelPackage) -> None:
    identity = target_identity(package.manifest, WANTED, "1.0")
    assert tuned_sizes(identity, package.manifest) == SERVED.sizes
    calls = Reference(package, [(64, 96)]).calls
    role = package.manifest.roles["denoiser"]
    assert extents(role, calls["denoiser"][0].inputs) == {
        "batch": 1,
        "evaluations": 2,
        "height": 12,
        "width": 8,
        "tokens": 32,
    }


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        (np.array([3.0, -4.0]), np.array([3.0, -4.5]), 0.1),
        # Of a thousand values one: as bf16 may have it, and as it is when it is broken.
        (np.ones(1000), np.array([1.08] + [1.0] * 999), 0.04),
        (np.ones(1000), np.array([2.0] + [1.0] * 999), 0.5),
        (np.array([1.0, -4.0]), np.array([1.0, -4.0]), 0.0),
        (np.array([1.0, -4.0]), np.array([np.nan, -4.0]), UNUSABLE),
        (np.array([1.0, np.inf]), np.array([1.0, np.inf]), UNUSABLE),
        (np.array([1.0, -4.0]), np.array([1.0]), UNUSABLE),
        (np.array([0.0, 0.0]), np.array([0.0, 0.0]), UNUSABLE),
        (np.zeros(2000, np.uint8), np.array([255] + [0] * 1999, np.uint8), 0.0),
        (np.zeros(100, np.uint8), np.array([51] * 2 + [0] * 98, np.uint8), 0.2),
    ],
)
def test_how_far_an_output_is_off(expected: Array, found: Array, error: float) -> None:
    assert compared("x", expected, found, "bf16") == pytest.approx(error)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_single_value_counts_in_full_where_there_are_digits(precision: Precision) -> None:
    found = np.array([1.08] + [1.0] * 999)
    assert compared("x", np.ones(1000), found, precision) == pytest.approx(0.08)
