"""Predictions for a graph before any fusion and after each one."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from benchmarks.roofline.gpus import Gpu
from benchmarks.roofline.prediction import Prediction, costs, predicted
from benchmarks.roofline.shapes import shapes_at
from engine_build.target.onnxruntime_cuda.fusions import FUSIONS, Fusion
from engine_build.target.onnxruntime_cuda.fusions import fused_in_turn as fusions_in_turn

BEFORE = "before"


@dataclass(frozen=True, slots=True)
class Stage:
    """Predictions for one variant of a graph, by the GPU's name."""

    name: str
    predictions: Mapping[str, Prediction]


def fused_in_turn(
    model: ir.Model, fusions: Iterable[Fusion] = FUSIONS
) -> Iterator[tuple[str, ir.Model]]:
    """The graph as compiled with no fusions, then after each one, by names; rewritten in place, so
    that each variant must be used before the next is asked for.
    """
    yield BEFORE, model
    for name in fusions_in_turn(model, fusions):
        yield name, model


def table(
    variants: Iterable[tuple[str, ir.Model]], extents: Mapping[str, int], gpus: Collection[Gpu]
) -> list[Stage]:
    """Predictions for variants of a graph at these extents of its axes."""
    stages = []
    for name, model in variants:
        found = costs(model, shapes_at(model, extents))
        stages.append(Stage(name, {gpu.name: predicted(found, gpu) for gpu in gpus}))
    return stages


def that_matter(stages: Iterable[Stage]) -> list[Stage]:
    """The stages, without those that change nothing."""
    kept: list[Stage] = []
    for stage in stages:
        if not kept or kept[-1].predictions != stage.predictions:
            kept.append(stage)
    return kept
