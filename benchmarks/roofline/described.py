"""Descriptions of the steps that were measured: their launches, so that no graph is needed.

    python -m benchmarks.roofline.described NAME GRAPHS

writes one anew from a folder of graphs that were compiled with no fusions, as `python -m
benchmarks.roofline MODEL --graphs GRAPHS` keeps them. NAME is `sdxl_before`, a step before any
fusion; a model, whose prelude is described beside its step; or `decoder`, an SDXL VAE's.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from benchmarks.roofline.call import Cost
from benchmarks.roofline.kernels import KERNELS, Rule
from benchmarks.roofline.launches import Launch, Product
from benchmarks.roofline.models import DRAWINGS
from benchmarks.roofline.own_kernels import MEASURED_TANGENT, gated_sum_norm
from benchmarks.roofline.prediction import costs, launches_of
from benchmarks.roofline.shapes import shapes_at
from benchmarks.roofline.stages import fused_in_turn
from engine_build.target.onnxruntime_cuda.prelude import split_prelude
from runtime.package.step_graph import conditioning_of

STEPS = Path(__file__).parent / "steps"
BEFORE, DECODER = "sdxl_before", "decoder"
MODELS = ("sdxl", "zimage", "flux-dev")
"""Models whose step was measured."""

PRELUDE = ".prelude"
PROFILED_STEPS = 4
"""In which a prelude ran once."""
SIZE = 1024

AS_MEASURED: Mapping[str, Rule] = {
    **KERNELS,
    "GatedSumNorm": partial(gated_sum_norm, tangent=MEASURED_TANGENT),
}
"""Kernels as they were when they were measured, at commit 5eb1acc."""


def described(name: str) -> list[Cost]:
    """The launches of a measured step, equal ones as one of so many launches."""
    counted = Counter(read((STEPS / f"{name}.json").read_text()))
    launches = (replace(each, launches=each.launches * n) for each, n in counted.items())
    return [Cost(tuple(launches))]


def profiled(name: str) -> list[Cost]:
    """The launches of a model's step as it was profiled, with its part of the prelude."""
    (once,) = described(name + PRELUDE)
    share = [replace(each, launches=each.launches / PROFILED_STEPS) for each in once.launches]
    return [*described(name), Cost(tuple(share))]


def written(launches: Iterable[Launch]) -> str:
    """Launches as JSON, equal ones counted."""
    counted = Counter(launches)
    rows = [
        json.dumps({"times": times, **{k: v for k, v in asdict(each).items() if v}})
        for each, times in counted.items()
    ]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def read(text: str) -> list[Launch]:
    """Launches that `written` wrote."""
    found = []
    for row in json.loads(text):
        times = row.pop("times")
        product = row.pop("product", None)
        made = Launch(product=Product(**product) if product else None, **row)
        found.extend([made] * times)
    return found


def describe(name: str, graphs: Path) -> dict[str, list[Launch]]:
    """The launches of a step, and of its prelude where it has one, by the description's name."""
    if name == DECODER:
        model = ir.load(graphs / "vae_decoder.fp16.onnx")
        return {name: _launches(_fused(model), "sdxl", "vae_decoder")}
    step = ir.load(graphs / "denoiser.onnx")
    if name == BEFORE:
        return {name: _launches(step, "sdxl", "denoiser")}
    inputs = [str(value.name) for value in step.graph.inputs]
    prelude = split_prelude(_fused(step), conditioning_of(inputs))
    once = _launches(prelude, name, "denoiser") if prelude else []
    return {name: _launches(step, name, "denoiser"), name + PRELUDE: once}


def _fused(model: ir.Model) -> ir.Model:
    for _ in fused_in_turn(model):
        pass
    return model


def _launches(model: ir.Model, drawing: str, role: str) -> list[Launch]:
    extents = DRAWINGS[drawing].extents(role, SIZE)
    return launches_of(costs(model, shapes_at(model, extents), AS_MEASURED))


def main() -> None:
    """Write the descriptions of one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=(BEFORE, *MODELS, DECODER))
    parser.add_argument("graphs", type=Path, metavar="GRAPHS")
    arguments = parser.parse_args()
    for name, launches in describe(arguments.name, arguments.graphs).items():
        (STEPS / f"{name}.json").write_text(written(launches))
        print(STEPS / f"{name}.json")


if __name__ == "__main__":
    main()
