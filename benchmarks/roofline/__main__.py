"""Predicts a picture's time from its compiled graphs, before and after each fusion, with no GPU.

    python -m benchmarks.roofline MODEL [--size 1024] [--gpu h200|h100] [--graphs FOLDER]
                                        [--before GRAPH.onnx] [--stage NAME=GRAPH.onnx ...]
    python -m benchmarks.roofline MODEL --against benchmarks/results/gpu_MODEL.json

Graphs are compiled of published structure with no fusions, which takes minutes, and the fusions are
applied in turn. FOLDER holds those graphs between runs, as ROLE.onnx. With `--against` the kernels
of a step that `benchmarks.gpu` measured are printed and drawn beside predictions, and no graph is
compiled: `described.py` keeps what was measured.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import onnx_ir as ir

from benchmarks.published_graphs import compiled_graph, published_roles
from benchmarks.real_size import write_hollow
from benchmarks.roofline.against import print_against, write_against
from benchmarks.roofline.calibration import MEASURED_LAUNCHES, MEASURED_MS
from benchmarks.roofline.chart import stage_bars
from benchmarks.roofline.described import MODELS
from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.measured import RESULTS, measured
from benchmarks.roofline.models import DRAWINGS
from benchmarks.roofline.picture import STEP
from benchmarks.roofline.report import Stages, print_tables, written
from benchmarks.roofline.stages import fused_in_turn, table, that_matter
from engine_build.quiet import quiet
from engine_build.target.onnxruntime_cuda.prelude import split_prelude
from runtime.package.step_graph import conditioning_of

NARROW = ".fp16"
MEASURED_STEPS: Mapping[str, Mapping[str, str | float]] = {
    "sdxl": {"gpu": "h200", "ms": MEASURED_MS, "launches": MEASURED_LAUNCHES}
}
"""Measured sums of the kernels of a step before any fusion, by model."""
NOTE = (
    "Predictions from graphs by a calibrated model. Nothing here was measured but the rows that "
    "the model is calibrated on (benchmarks/roofline/calibration.py); for those beside predictions "
    "see roofline_MODEL_measured.json."
)


def main() -> None:
    """Predict all stages of each role, print the tables, and write the result and its chart."""
    arguments = _parser().parse_args()
    if arguments.against:
        _against(arguments)
        return
    drawing, gpus = DRAWINGS[arguments.model], GPUS.values()
    extents = partial(drawing.extents, size=arguments.size)
    with tempfile.TemporaryDirectory(prefix="calotype-roofline-") as scratch:
        folder = arguments.graphs or Path(scratch)
        graphs = unfused_graphs(arguments.model, folder)
    if arguments.before:
        graphs[STEP] = ir.load(arguments.before)
    stages = {
        role: table(fused_in_turn(model), extents(role), gpus)
        for role, model in graphs.items()
        if not role.endswith(NARROW)
    }
    for role in stages:
        if role + NARROW in graphs:
            *_, (_, fused) = fused_in_turn(graphs[role + NARROW])
            stages[role] += table([("in fp16", fused)], extents(role), gpus)
    for name, split in PRELUDES.items():
        prelude = split(graphs[STEP])
        if prelude is not None:
            stages[STEP] += table([(f"split_{name}", graphs[STEP])], extents(STEP), gpus)
            stages[f"{STEP}.{name}"] = table([("once a picture", prelude)], extents(STEP), gpus)
    further = [(name, ir.load(path)) for name, path in arguments.stage]
    stages[STEP] += table(further, extents(STEP), gpus)
    kept = {role: that_matter(found) for role, found in stages.items()}
    arguments.gpu = arguments.gpu or drawing.gpu
    print_tables(kept, arguments.gpu, drawing.steps)
    _write(arguments, kept, drawing.steps)


def _against(arguments: argparse.Namespace) -> None:
    if arguments.model not in MODELS:
        raise SystemExit(f"{arguments.model}: no step of it was measured; expected {MODELS}")
    found = measured(arguments.against)
    path = arguments.output or RESULTS / f"roofline_{arguments.model}_measured.json"
    print_against(found)
    write_against(found, path)
    print(f"\nwritten: {path}, {path.with_suffix('.svg')}")


def unfused_graphs(name: str, folder: Path) -> dict[str, ir.Model]:
    """Graphs of a model's roles compiled with no fusions, kept in `folder` as ROLE.onnx; those of
    fp32, which are decoders, in fp16 too: ROLE.fp16.onnx.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = sorted(folder.glob("*.onnx"))
    if not kept:
        with tempfile.TemporaryDirectory(prefix="calotype-hollow-") as scratch, quiet():
            hollow = write_hollow(name, Path(scratch) / name, shallow=False)
            for role, export in published_roles(hollow).items():
                _keep(compiled_graph(export, ()), folder / f"{role}.onnx")
                if export.precision == "fp32":
                    _keep(compiled_graph(export, (), "fp16"), folder / f"{role}{NARROW}.onnx")
        kept = sorted(folder.glob("*.onnx"))
    return {path.stem: ir.load(path) for path in kept}


def _keep(model: ir.Model, path: Path) -> None:
    path.write_bytes(ir.to_proto(model).SerializeToString())


def _split_conditioning(step: ir.Model) -> ir.Model | None:
    inputs = [str(value.name) for value in step.graph.inputs]
    return split_prelude(step, conditioning_of(inputs))


PRELUDES: Mapping[str, Callable[[ir.Model], ir.Model | None]] = {"prelude": _split_conditioning}
"""Parts of a step that run once a picture, by name: each is split off in place, in turn."""


def _write(arguments: argparse.Namespace, stages: Stages, steps: int) -> None:
    """Write the predictions for all GPUs, and the chart of a step on the GPU that was asked for."""
    facts = {
        "note": NOTE,
        "model": arguments.model,
        "size": arguments.size,
        "measured_before": MEASURED_STEPS.get(arguments.model),
        "predicted_at": datetime.now(UTC).date().isoformat(),
    }
    path = arguments.output or RESULTS / f"roofline_{arguments.model}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(written(facts, stages, steps))
    title = f"{arguments.model}, {arguments.size}x{arguments.size}, a step on {arguments.gpu}"
    chart = stage_bars(f"{title}: predicted ms of kernels", arguments.gpu, stages[STEP])
    path.with_suffix(".svg").write_text(chart)
    print(f"\nwritten: {path}, {path.with_suffix('.svg')}")


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=GRAPH.onnx")
    return name, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=DRAWINGS)
    parser.add_argument("--size", type=int, default=1024, help="of a side; default: 1024")
    parser.add_argument("--gpu", choices=GPUS, help="default: the model's own")
    parser.add_argument("--graphs", type=Path, metavar="FOLDER", help="default: compiled anew")
    parser.add_argument(
        "--before", type=Path, metavar="GRAPH.onnx", help="a step's graph compiled with no fusions"
    )
    parser.add_argument(
        "--stage", type=_named, action="append", default=[], metavar="NAME=GRAPH.onnx",
        help="a further variant of the step's graph, in order",
    )  # fmt: skip
    parser.add_argument("--against", type=Path, metavar="FILE", help="a result of `benchmarks.gpu`")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: in results/")
    return parser


if __name__ == "__main__":
    main()
