"""Kernels in a profiler's trace: which there are, of what kind, and the time between them."""

from typing import Any

import pytest

from benchmarks.kernels import OTHER, Kernel, busy, by_kind, kernels_of, kind_of, summary


def event(name: str, begin: float, length: float, kind: str = "kernel") -> dict[str, Any]:
    return {"name": name, "ts": begin, "dur": length, "cat": kind, "ph": "X"}


def test_what_ran_on_the_device_is_in_order() -> None:
    events = [
        event("late", 20, 5),
        event("cudaLaunchKernel", 0, 100, "cuda_runtime"),
        event("Memset (Device)", 1, 2, "gpu_memset"),
        {"name": "process_name", "ph": "M"},
    ]
    found = kernels_of({"traceEvents": events})
    assert found == [Kernel("Memset (Device)", 1, 3), Kernel("late", 20, 25)]


def test_time_in_which_two_kernels_run_counts_once() -> None:
    kernels = [Kernel("a", 0, 10), Kernel("b", 4, 6), Kernel("c", 8, 12), Kernel("d", 20, 25)]
    assert busy(kernels) == 17


def test_gaps_are_what_no_kernel_fills() -> None:
    kernels = [Kernel("a", 0, 3000), Kernel("b", 4000, 5000), Kernel("a", 5000, 8000)]
    found = summary(kernels, 2, step_ms=5.0)
    assert found["launches_a_step"] == 1.5
    assert found["kernels_ms_a_step"] == 3.5
    assert found["gaps_share_profiled"] == pytest.approx(0.125)
    assert found["gaps_share_by_the_clock"] == pytest.approx(0.3)
    assert [(row["what"], row["ms"], row["launches"]) for row in found["names"]] == [
        ("a", 3.0, 1.0),
        ("b", 0.5, 0.5),
    ]


def test_a_profiler_that_saw_nothing_says_so() -> None:
    assert summary([], 4, step_ms=1.0)["note"] == "the profiler saw no kernel"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64", "matrix product"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_TNT", "matrix product"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", "attention"),
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc", "convolution"),
        (
            "void onnxruntime::cuda::_UnaryElementWise<__half, float, OP_Cast<__half, float>>",
            "cast",
        ),
        ("void onnxruntime::cuda::cuApplyLayerNorm<float, float>", "layer norm"),
        ("void onnxruntime::contrib::cuda::groupNormNHWCSumKernel<__half>", "group norm"),
        ("void onnxruntime::cuda::_SplitKernel<short>(onnxruntime::cuda::DivMod<int>)", "Split"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", "matrix product"),
        ("gated_sum_norm_bf16_packs", "GatedSumNorm"),
        ("rotated_heads_bf16_packs", "RotatedHeads"),
        ("gated_activation_bf16_packs", "GatedActivation"),
        ("Memset (Device)", "memset"),
        ("a kernel of nobody", OTHER),
    ],
)
def test_a_kernel_has_a_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_kinds_are_listed_by_what_they_take() -> None:
    kernels = [
        Kernel("Memset", 0, 1000),
        Kernel("x_gemm", 1000, 4000),
        Kernel("y_gemm", 4000, 5000),
    ]
    assert by_kind(kernels, 1) == [
        {"what": "matrix product", "ms": 4.0, "launches": 2.0},
        {"what": "memset", "ms": 1.0, "launches": 1.0},
    ]
