"""The command, on graphs of the demo model."""

import json
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from benchmarks.roofline.__main__ import main
from benchmarks.roofline.gpus import GPUS
from engine_build.target.onnxruntime_cuda.compiler import optimise
from runtime.package.manifest import Precision, load_package
from tests.tiny.lora_packs import ENGINES

ROLES = ("denoiser", "text_encoder", "vae_decoder")


def write_unfused(folder: Path) -> None:
    manifest = load_package(ENGINES, "demo").manifest
    for role in ROLES:
        write(role, manifest.roles[role].precision, folder / f"{role}.onnx")
    write("vae_decoder", "fp16", folder / "vae_decoder.fp16.onnx")


def write(role: str, precision: Precision, path: Path) -> None:
    package = load_package(ENGINES, "demo")
    record = package.manifest.roles[role]
    model = ir.load(package.file(record.graph))
    parameters = [each.initializer for each in record.parameters.values()]
    optimise(model, precision, parameters, fusions=())
    path.write_bytes(ir.to_proto(model).SerializeToString())


def test_stages_of_every_role_are_printed_written_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs, output = tmp_path / "graphs", tmp_path / "found.json"
    graphs.mkdir()
    write_unfused(graphs)
    step = graphs / "denoiser.onnx"
    arguments = ["sdxl", "--graphs", graphs, "--size", "128", "--gpu", "h100", "--output", output]
    arguments += ["--before", step, "--stage", f"again={step}"]
    monkeypatch.setattr(sys, "argv", ["roofline", *map(str, arguments)])
    main()
    printed = capsys.readouterr().out
    for role in ROLES:
        assert f"{role} on h100" in printed
    result = json.loads(output.read_text())
    assert result["gpus"].keys() == GPUS.keys()
    for found in result["gpus"].values():
        stages = found["roles"]["denoiser"]
        assert [stages[0]["stage"], stages[-1]["stage"]] == ["before", "again"]
        assert stages[-1]["ms"] == stages[0]["ms"] > stages[-2]["ms"]
        wide, narrow = found["roles"]["vae_decoder"][-2:]
        assert narrow["stage"] == "in fp16"
        assert narrow["ms"] < wide["ms"]
    assert output.with_suffix(".svg").read_text().startswith("<svg")
