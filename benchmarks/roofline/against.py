"""Measured kernels of a step beside predictions, as a table, JSON and a chart."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.roofline.calibration import GPU, Fit, fits
from benchmarks.roofline.chart import stacked_bars
from benchmarks.roofline.described import DECODER, described, profiled
from benchmarks.roofline.measured import Measured
from benchmarks.roofline.prediction import predicted
from benchmarks.roofline.rests_on import BY_KIND

NOTE = (
    "Predictions are of the graphs and kernels that were measured (benchmarks/roofline/steps), by "
    "figures that were fitted to these very rows among others (benchmarks/roofline/calibration.py)."
)


def print_against(found: Measured) -> None:
    """Print each kind of kernel measured beside predicted, and times by the clock."""
    print(f"{found.model} on {found.gpu}, ms of a step of {found.profiled_steps} profiled")
    print(f"  {'':24} {'measured':>9} {'predicted':>9} {'':>7} {'launches':>14}  rests on")
    for row in rows(found):
        error = f"{row.error:+7.1%}" if row.ms else ""
        print(
            f"  {row.kind:24} {row.ms:9.3f} {row.predicted_ms:9.3f} {error:>7} "
            f"{row.launches:7.0f} {row.predicted_launches:6.0f}  {BY_KIND.get(row.kind, '')}"
        )
    for name, (ms, predicted_ms) in clock(found).items():
        print(f"  {name:24} {ms:9.2f} {predicted_ms:9.2f} {predicted_ms / ms - 1:+7.1%}")


def rows(found: Measured) -> list[Fit]:
    """Kinds of kernels of a profiled step, the longest first."""
    return fits(predicted(profiled(found.model), GPU), found.rows)


def clock(found: Measured) -> dict[str, tuple[float, float]]:
    """Sums of milliseconds, measured and predicted."""
    step, decoder = (predicted(described(name), GPU) for name in (found.model, DECODER))
    return {
        "kernels": (found.kernels_ms, predicted(profiled(found.model), GPU).ms),
        "step by the clock": (found.step_ms, step.clock_ms),
        "decoder by the clock": (found.decode_ms, decoder.clock_ms),
    }


def write_against(found: Measured, path: Path) -> None:
    """Write the table as JSON to `path`, and its chart beside."""
    table = rows(found)
    result = {
        "note": NOTE,
        "model": found.model,
        "gpu": found.gpu,
        "profiled_steps": found.profiled_steps,
        "rows": [
            {key: _rounded(value) for key, value in asdict(row).items()}
            | {"rests_on": BY_KIND.get(row.kind, "")}
            for row in table
        ],
        "sums_ms": {
            name: {"measured": _rounded(ms), "predicted": _rounded(predicted_ms)}
            for name, (ms, predicted_ms) in clock(found).items()
        },
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
    bars = [
        ("measured", {row.kind: row.ms for row in table}),
        ("predicted", {row.kind: row.predicted_ms for row in table}),
    ]
    title = f"{found.model}, 1024x1024, a step on an H200: ms of kernels"
    path.with_suffix(".svg").write_text(stacked_bars(title, bars))


def _rounded(value: float | str) -> float | str:
    return round(value, 3) if isinstance(value, float) else value
