"""Measured kernels beside predictions."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.roofline import call
from benchmarks.roofline.__main__ import main
from benchmarks.roofline.described import MODELS
from benchmarks.roofline.measured import RESULTS, kind_of, measured

NAMES = {
    "nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_TNN": call.PRODUCT,
    "void cublasLt::splitKreduce_kernel<32, 16, int, float>": call.PRODUCT,
    "void onnxruntime::cuda::_SplitKernel<short>(onnxruntime::cuda::DivMod<int>)": call.SPLIT,
    "void onnxruntime::contrib::cuda::biasSplitGeluKernel<__half, 5120, 256>": call.GATED_GELU,
    "void onnxruntime::contrib::cuda::SkipLayerNormKernelSmall<__half, 160u>": call.SKIP_NORM,
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16": call.ATTENTION,
    "sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc": call.CONVOLUTION,
    "rotated_heads_bf16_packs": call.ROTATED_HEADS,
    "Memset (Device)": call.MEMSET,
    "Memcpy HtoD (Pinned -> Device)": call.COPY,
    "void onnxruntime::cuda::_BinaryElementWiseSimple<OP_Add<float>>": call.ADD,
    "a kernel that nobody knows": call.OTHER,
}


@pytest.mark.parametrize(("name", "kind"), NAMES.items())
def test_a_kernel_is_known_by_its_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("model", MODELS)
def test_the_kinds_of_a_result_are_all_of_its_kernels(model: str) -> None:
    found = measured(RESULTS / f"gpu_{model}.json")
    assert sum(ms for ms, _ in found.rows.values()) == pytest.approx(found.kernels_ms, rel=1e-3)
    assert sum(n for _, n in found.rows.values()) == pytest.approx(found.launches, rel=1e-3)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["roofline", *map(str, arguments)])
    main()


def test_the_table_is_printed_written_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.json"
    run(monkeypatch, "zimage", "--against", RESULTS / "gpu_zimage.json", "--output", output)
    printed = capsys.readouterr().out
    result = json.loads(output.read_text())
    rows = {row["kind"]: row for row in result["rows"]}
    assert rows[call.GATED_SUM_NORM]["ms"] == pytest.approx(3.294, abs=0.001)
    assert all(row["rests_on"] for row in result["rows"])
    for kind in rows:
        assert kind in printed
    chart = output.with_suffix(".svg").read_text()
    assert "measured" in chart
    assert "predicted" in chart


def test_what_was_not_measured_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="chroma: no step of it was measured"):
        run(monkeypatch, "chroma", "--against", RESULTS / "gpu_zimage.json")
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json.*part 'pictures' ran"):
        measured(other)
