"""The precision that a decoder's own activations allow."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from pydantic import TypeAdapter

from engine_build.cli import run
from engine_build.progress import Phases
from engine_build.target import activations
from engine_build.target.activations import check_range
from engine_build.target.capture import Call
from engine_build.target.onnxruntime_cuda import narrowing as module
from engine_build.target.onnxruntime_cuda.engine import OnnxRuntimeCudaCompiler
from engine_build.target.onnxruntime_cuda.narrowing import narrowing
from engine_build.target.profiles import Tuning
from engine_build.target.reference import Reference
from engine_build.target.report import narrowing_text
from engine_build.target.targets import Wanted, target_identity
from engine_build.target.unfused import CPU, UnfusedSession
from runtime.errors import BuildError
from runtime.package.backend_name import BackendName
from runtime.package.engine_record import Narrowing
from runtime.package.manifest import Precision, load_package
from runtime.package.sealed import seal
from runtime.package.target import FOLDER, TF32, read_target
from tests.engine_build.target.onnxruntime_cuda.loud import VAE, loud
from tests.tiny.lora_packs import ENGINES

SIZES = [(64, 64)]


@pytest.fixture(scope="module")
def demo() -> Reference:
    reference = Reference(load_package(ENGINES, "demo"), SIZES)
    assert set(reference.calls) > {VAE}
    return reference


def louder(demo: Reference, times: float, folder: Path) -> Reference:
    """The same latents for a VAE with a larger stream."""
    package = loud(demo.package, times, folder)
    session = UnfusedSession.of_role(package, VAE, CPU)
    reference = Reference(package, SIZES)
    calls = [Call(call.inputs, session.run(call.inputs)) for call in demo.calls[VAE]]
    reference.calls = {VAE: calls}  # type: ignore[misc]
    return reference


def test_decoders_that_fit_are_in_fp16_as_they_are(demo: Reference) -> None:
    for role in (VAE, "preview_decoder"):
        found = narrowing(demo, role)
        assert (found.precision, found.exponent) == ("fp16", 0)
    assert found.in_stream == 0, "a decoder without norms has no stream"
    assert found.elsewhere > 1


@pytest.mark.parametrize("times", [2**9, 2**10, 2**13])
def test_a_stream_beyond_fp16_is_scaled_by_the_smallest_power_that_leaves_room(
    demo: Reference, times: float, tmp_path: Path
) -> None:
    plain, found = narrowing(demo, VAE), narrowing(louder(demo, times, tmp_path), VAE)
    assert found.precision == "fp16"
    assert found.in_stream == pytest.approx(plain.in_stream * times, rel=0.02)
    assert found.elsewhere == pytest.approx(plain.elsewhere, rel=0.02)
    in_the_end = found.in_stream * 2.0**-found.exponent * activations.HEADROOM_FACTOR
    assert activations.LARGEST_FP16 / 2 < in_the_end <= activations.LARGEST_FP16


def test_a_stream_beyond_every_scale_stays_in_fp32(
    demo: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_EXPONENT", 3)
    found = narrowing(louder(demo, 2**12, tmp_path), VAE)
    assert (found.precision, found.exponent) == ("fp32", 0)


def test_activations_that_no_scale_reaches_keep_a_decoder_in_fp32(
    demo: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if fp16 ended between what the VAE's norms make and its stream."""
    found = narrowing(demo, VAE)
    assert found.elsewhere < found.in_stream / 4
    monkeypatch.setattr(activations, "LARGEST_FP16", found.elsewhere * 3)
    assert narrowing(demo, VAE).precision == "fp32"
    monkeypatch.setattr(activations, "LARGEST_FP16", found.elsewhere * 5)
    assert narrowing(demo, VAE).precision == "fp16"


def test_a_decoder_is_compiled_and_checked_as_it_was_narrowed(
    demo: Reference, tmp_path: Path
) -> None:
    reference = louder(demo, 2**10, tmp_path)
    wanted = Wanted("onnxruntime-cuda", "sm_90", Tuning(((64, 64),), 1))
    identity = target_identity(demo.package.manifest, wanted, "1")
    compiler, phases = OnnxRuntimeCudaCompiler.installed(wanted.backend), Phases(VAE, shown=False)
    folder = tmp_path / "target"
    folder.mkdir()
    record = compiler.compile(reference, identity, VAE, folder, phases)
    assert record.narrowing == narrowing(reference, VAE)
    assert record.narrowing.exponent > 0
    assert record.precision(identity.engines[VAE].precision) == "fp16"
    compiler.check(reference, VAE, "fp16", folder, phases)
    (epsilon,) = {
        node.attributes["epsilon"].as_float()
        for node in ir.load(folder / record.file).graph
        if node.op_type == "GroupNorm"
    }
    assert epsilon == pytest.approx(1e-6 * 4.0**-record.narrowing.exponent)


@pytest.fixture(params=[np.nan, 1e30])
def broken(demo: Reference, request: pytest.FixtureRequest, tmp_path: Path) -> Reference:
    """Pictures of a VAE with weights that are NaN, or infinite, since fp16 stores no 1e30."""
    with np.errstate(over="ignore"):
        return louder(demo, request.param, tmp_path)


def test_a_decoder_with_activations_that_are_infinite_or_nan_stays_in_fp32(
    broken: Reference,
) -> None:
    found = narrowing(broken, VAE)
    assert (found.precision, found.exponent, found.in_stream) == ("fp32", 0, None)
    assert "seen are infinite or NaN in the stream" in narrowing_text(found)
    assert b'"in_stream": null' in seal(TypeAdapter(Narrowing), found)


def test_fp16_is_refused_for_activations_that_are_infinite_or_nan(broken: Reference) -> None:
    manifest = broken.package.manifest
    trained_in_bf16 = {VAE: replace(manifest.roles[VAE], precision="bf16")}
    broken.package = replace(broken.package, manifest=replace(manifest, roles=trained_in_bf16))
    wanted = Wanted("tensorrt", "sm_90", Tuning(((64, 64),), 1), precision="fp16")
    with pytest.raises(BuildError, match=f"activations of {VAE} reach inf on a real picture"):
        check_range(broken, wanted)


@pytest.mark.parametrize("asked", [None, "fp16", "bf16", "fp32"])
@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_decoders_are_wished_in_fp16_where_a_compiler_looks_at_what_fits(
    demo: Reference, backend: BackendName, asked: Precision | None
) -> None:
    """CUDA's provider has no convolution for bf16 that takes channels last."""
    wanted = Wanted(backend, "sm_90", Tuning(((64, 64),), 1), precision=asked)
    engines = target_identity(demo.package.manifest, wanted, "1").engines
    narrows = backend == "onnxruntime-cuda" and asked != "fp32"
    for role in (VAE, "preview_decoder"):
        assert engines[role].precision == ("fp16" if narrows else "fp32")
        assert (TF32 in engines[role].flags) == (asked != "fp32")
    assert engines["denoiser"].precision == (asked or "fp16")


def compiled(demo: Path, *flags: str) -> tuple[dict[str, Narrowing | None], str, str]:
    """The narrowing of each role; and the name of the target, and its decoder's precision."""
    asked = ["compile", "demo", "--backend", "onnxruntime-cuda", "--gpu", "sm_90", "--quiet"]
    assert run([*asked, "--sizes", "64x64", "--engines", str(demo), *flags]) == 0
    (folder,) = (each for each in (demo / "demo" / FOLDER).iterdir() if each.is_dir())
    record = read_target(folder).record
    return (
        {role: engine.narrowing for role, engine in record.engines.items()},
        folder.name,
        record.identity.engines[VAE].precision,
    )


def test_a_target_tells_what_its_decoders_compute_in_and_why(
    demo_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, name, wished = compiled(demo_copy)
    assert wished == "fp16"
    assert {role for role, each in found.items() if each} == {VAE, "preview_decoder"}
    expected = f"{VAE}: fp16, unscaled; the largest activations seen are 1"
    assert expected in capsys.readouterr().out
    assert run(["inspect", "demo", name, "--engines", str(demo_copy)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert any(line.startswith(expected) for line in told)
    assert any(line.split()[:2] == [VAE, "fp16"] for line in told)


def test_fp32_is_what_it_says(demo_copy: Path) -> None:
    found, _, wished = compiled(demo_copy, "--precision", "fp32")
    assert set(found.values()) == {None}
    assert wished == "fp32"


@pytest.fixture
def demo_copy(tmp_path: Path) -> Path:
    """An engines folder with a copy of the demo, without targets."""
    ignored = shutil.ignore_patterns(FOLDER)
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    return tmp_path


def test_a_sentence_names_the_scale_or_why_there_is_none() -> None:
    scaled = narrowing_text(Narrowing("fp16", 3, 1.2e5, 870.0))
    assert scaled.startswith("fp16, with the stream scaled by 2^-3; ")
    assert "1.2e+05 in the stream" in scaled
    wide = narrowing_text(Narrowing("fp32", 0, 1.2e5, 3e4))
    assert wide.startswith("fp32, since fp16 cannot hold")
    assert "3e+04 elsewhere" in wide
