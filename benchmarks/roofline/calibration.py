"""The measured rows that figures of `gpus.py` are fitted to, and how well they fit.

    python -m benchmarks.roofline.calibration

fits the figures by least squares over all rows, prints them, every row measured beside predicted,
and what the figures would have been, and predicted, had one model not been measured.

Measured on an H200 with onnxruntime-gpu 1.31.1, at 1024x1024: the kernels of a guided step of SDXL
before any fusion, without a CUDA graph (`MEASURED`), and of four steps each of SDXL, Z-Image and
Flux Dev as they are compiled now (`benchmarks/results/gpu_MODEL.json`).

Fitted together, by `fit.py`: the rates of products, convolutions and attention, the ramp of a
product, the memory's bandwidth, and the share of a block's work that is not hidden behind other
blocks. Fitted to a row of the first step each: the running mean of layer norms, cuDNN's addition of
a bias; shared by rows of that step: the fixed time of a kernel (Memset), the time of an access
(Cast, Mul, Add) and of a place by divisions (biases, Split). Fitted to rows of the later steps: the
search of a Split into unequal parts and its copies (Flux), Resize and BiasAdd (SDXL). Counted in a
kernel's code: Gelu, our operators, group norms' reads. Published: the latency of a read, attention
with a bias on its scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.roofline import call
from benchmarks.roofline.described import (
    BEFORE,
    MODELS,
    PRELUDE,
    PROFILED_STEPS,
    described,
    profiled,
)
from benchmarks.roofline.fit import Measurement, figures, fitted, with_figures
from benchmarks.roofline.gpus import GPUS, Gpu
from benchmarks.roofline.measured import RESULTS, Measured, measured
from benchmarks.roofline.prediction import Prediction, predicted

MEASURED: Mapping[str, tuple[float, float]] = {
    call.PRODUCT: (13.8, 754),
    call.ATTENTION: (4.4, 140),
    call.CONVOLUTION: (5.6, 54),
    call.BIAS: (4.0, 302),
    call.SPLIT: (2.8, 72),
    call.GELU: (2.7, 70),
    call.MUL: (1.6, 70),
    call.LAYER_NORM: (2.7, 210),
    call.CAST: (1.9, 425),
    call.ADD: (1.8, 256),
    call.CONVOLUTION_BIAS: (1.1, 51),
    call.GROUP_NORM: (0.9, 92),
    call.MEMSET: (0.3, 272),
}
"""Milliseconds and launches of SDXL's step before any fusion, by kind."""

MEASURED_MS, MEASURED_LAUNCHES = 44.0, 2870
"""Of all kernels of that step, those of no row among them."""

FITTED_KINDS = (
    call.PRODUCT, call.CONVOLUTION, call.ATTENTION, call.GATED_SUM_NORM, call.ROTATED_HEADS,
    call.SKIP_NORM, call.GATED_ACTIVATION,
)  # fmt: skip

GPU = GPUS["h200"]
"""The GPU that was measured."""

PRIOR: Mapping[str, float] = {
    "products": 800e12, "convolutions": 615e12, "attention": 370e12, "attention of 128": 580e12,
    "attention of 128, keys told": 580e12, "ramp": 2.0e-6, "unhidden": 0.5,
    "bandwidth": 0.9 * 4.8e12,
}  # fmt: skip
PRIOR_GAP = 0.8e-6
"""Figures that were predicted with before the three models' steps were measured: fitted to SDXL's
step before any fusion, published by others (heads of 128: FlashAttention-3, arXiv 2407.08608,
figure 5; github.com/meta-pytorch/tritonbench, issue 141) or assumed."""

_LEAST_MS = 0.25
"""Shorter rows are not printed by themselves."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A measured row beside the predicted row."""

    kind: str
    ms: float
    predicted_ms: float
    launches: float
    predicted_launches: float

    @property
    def error(self) -> float:
        """Relative error of the milliseconds; infinite where nothing was measured."""
        return self.predicted_ms / self.ms - 1 if self.ms else float("inf")


def fits(prediction: Prediction, rows: Mapping[str, tuple[float, float]] = MEASURED) -> list[Fit]:
    """Measured rows beside those of a prediction, then rows that are predicted alone."""
    found = {row.kind: row for row in prediction.rows}
    kinds = [*rows, *(kind for kind in found if kind not in rows and rows is not MEASURED)]
    made = []
    for kind in kinds:
        (ms, launches), row = rows.get(kind, (0.0, 0.0)), found.get(kind)
        there = (row.ms, row.launches) if row else (0.0, 0.0)
        made.append(Fit(kind, ms, there[0], launches, there[1]))
    return made


def profiles() -> dict[str, Measured]:
    """The measured steps of `benchmarks.gpu`, by model."""
    return {model: measured(RESULTS / f"gpu_{model}.json") for model in MODELS}


def measurements() -> list[Measurement]:
    """All rows that figures are fitted to."""

    def fitted_of(rows: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        return {kind: ms for kind, (ms, _) in rows.items() if kind in FITTED_KINDS}

    return [
        Measurement(BEFORE, described(BEFORE), fitted_of(MEASURED)),
        *(
            Measurement(model, profiled(model), fitted_of(each.rows))
            for model, each in profiles().items()
        ),
    ]


def without(model: str) -> Gpu:
    """The figures, had a model not been measured; those that no other row tells are the prior."""
    others = [each for each in measurements() if not each.name.startswith(model)]
    found = fitted(with_figures(GPU, PRIOR), others)
    return beside_kernels(found, [each for each in MODELS if each != model])


def beside_kernels(gpu: Gpu, models: Iterable[str] = MODELS) -> Gpu:
    """The GPU with the gap of a CUDA graph and the share of a sustained step that predict best, by
    least squares, what steps by the clock take beside their kernels. The prior gap counts as one
    more step, of a thousand launches."""
    found = profiles()
    facts, beside = [(1e3, 0.0)], [1e6 * PRIOR_GAP]
    for model in models:
        step, once = (predicted(described(name), gpu) for name in (model, model + PRELUDE))
        facts.append((step.launches, step.bound_ms))
        beside.append(found[model].beside_ms + once.ms / PROFILED_STEPS)
    (gap_ms, share), *_ = np.linalg.lstsq(np.array(facts), np.array(beside))
    return replace(gpu, gap_in_graph=float(gap_ms) / 1e3, sustained=float(share))


def main() -> None:
    """Print the figures, the rows, and the errors for each model left out."""
    gpu = beside_kernels(fitted(GPU, measurements()))
    print("fitted: ", _figures(gpu), "\nin gpus: ", _figures(GPU), sep="")
    print(f"\n{BEFORE}")
    _print_rows(fits(predicted(described(BEFORE), GPU)), MEASURED_MS)
    for model, found in profiles().items():
        print(f"\n{model}: {_told(model, found)}")
        _print_rows(fits(predicted(profiled(model), GPU), found.rows), found.kernels_ms)


def _told(model: str, found: Measured) -> str:
    """A step by the clock beside predictions with this model and without."""
    step, left = predicted(described(model), GPU), without(model)
    kernels, alone = (predicted(each(model), left) for each in (profiled, described))
    clock = found.step_ms
    return (
        f"a step by the clock {clock:.1f} ms, predicted {step.clock_ms:.1f}; had the model not "
        f"been measured: kernels {kernels.ms:.2f} ({kernels.ms / found.kernels_ms - 1:+.1%}), "
        f"step {alone.clock_ms:.1f} ({alone.clock_ms / clock - 1:+.1%})"
    )


def _figures(gpu: Gpu) -> str:
    rows = {**figures(gpu), "gap_in_graph": gpu.gap_in_graph, "sustained": gpu.sustained}
    return ", ".join(f"{name} {value:.4g}" for name, value in rows.items())


def _print_rows(rows: Sequence[Fit], ms: float) -> None:
    for fit in rows:
        if max(fit.ms, fit.predicted_ms) >= _LEAST_MS:
            print(
                f"  {fit.kind:24} {fit.ms:7.2f} ms measured {fit.predicted_ms:7.2f} predicted "
                f"{fit.error:+6.1%} {fit.launches:6.0f} launches {fit.predicted_launches:6.0f}"
            )
    print(f"  {'all':24} {ms:7.2f} ms measured {sum(each.predicted_ms for each in rows):7.2f}")


if __name__ == "__main__":
    main()
