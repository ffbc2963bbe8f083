"""Least squares over measured rows: figures of a GPU that predict the rows best.

A row's residual is the logarithm of predicted over measured, weighted by the root of its
milliseconds. A figure is moved by its logarithm, so that no figure becomes negative; a figure that
no row depends on stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.roofline.call import Cost
from benchmarks.roofline.gpus import Gpu, Rate
from benchmarks.roofline.prediction import predicted

RATES: tuple[Rate, ...] = (
    "products", "convolutions", "attention", "attention of 128", "attention of 128, keys told",
)  # fmt: skip
OTHERS = ("ramp", "unhidden", "bandwidth")
"""Figures that are fitted: rates, and fields of a GPU."""

_ROUNDS = 12
_STEP = 0.02


@dataclass(frozen=True, slots=True)
class Measurement:
    """A step's launches, and measured milliseconds of its kinds."""

    name: str
    costs: Sequence[Cost]
    rows: Mapping[str, float]


def figures(gpu: Gpu) -> dict[str, float]:
    """The figures that are fitted, by name."""
    return {
        **{rate: gpu.rates[rate] for rate in RATES},
        **{name: getattr(gpu, name) for name in OTHERS},
    }


def with_figures(gpu: Gpu, found: Mapping[str, float]) -> Gpu:
    """The GPU with other figures."""
    return replace(
        gpu,
        rates={**gpu.rates, **{rate: found[rate] for rate in RATES}},
        ramp=found["ramp"],
        unhidden=found["unhidden"],
        bandwidth=found["bandwidth"],
    )


def fitted(gpu: Gpu, measurements: Sequence[Measurement]) -> Gpu:
    """The GPU with the figures of least squares, by Gauss and Newton's steps from its own."""
    names = list(figures(gpu))
    found = np.log(list(figures(gpu).values()))

    def at(logarithms: NDArray[np.float64]) -> Gpu:
        return with_figures(gpu, dict(zip(names, np.exp(logarithms).tolist(), strict=True)))

    for _ in range(_ROUNDS):
        here = _residuals(at(found), measurements)
        slopes = np.stack(
            [(_residuals(at(found + move), measurements) - here) / _STEP
             for move in _STEP * np.eye(len(names))], axis=1,
        )  # fmt: skip
        found = found - np.clip(np.linalg.lstsq(slopes, here, rcond=1e-6)[0], -0.2, 0.2)
    return at(found)


def _residuals(gpu: Gpu, measurements: Sequence[Measurement]) -> NDArray[np.float64]:
    found = []
    for each in measurements:
        rows = {row.kind: row.ms for row in predicted(each.costs, gpu).rows}
        found += [
            np.sqrt(ms) * np.log(rows[kind] / ms) for kind, ms in each.rows.items() if kind in rows
        ]
    return np.array(found)
