"""Predicts a picture's time from its compiled graphs, before and after each fusion, with no GPU.

    python -m benchmarks.roofline sdxl [--size 1024] [--gpu h200|h100] [--graphs FOLDER]
                                       [--before GRAPH.onnx] [--stage NAME=GRAPH.onnx ...]

Graphs are compiled of published structure with no fusions, which takes minutes, and the fusions are
applied in turn. FOLDER holds those graphs between runs, as ROLE.onnx.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx_ir as ir

from benchmarks.published_graphs import compiled_graph, published_roles
from benchmarks.real_size import write_hollow
from benchmarks.roofline.calibration import MEASURED_LAUNCHES, MEASURED_MS
from benchmarks.roofline.chart import stacked_bars
from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.picture import ASSUMED, Picture, picture
from benchmarks.roofline.prediction import Prediction, Row
from benchmarks.roofline.stages import Stage, fused_in_turn, table, that_matter
from engine_build.quiet import quiet

RESULTS = Path(__file__).parent.parent / "results"
MODELS = ("sdxl",)
STEP = "denoiser"
NARROW = ".fp16"
SCALE = 8
"""Pixels of a latent's side."""
NOTE = (
    "Predictions from graphs by a calibrated model. Nothing here was measured but the table that "
    "the model is calibrated on (benchmarks/roofline/calibration.py)."
)


def main() -> None:
    arguments = _parser().parse_args()
    size, gpus = arguments.size, GPUS.values()
    with tempfile.TemporaryDirectory(prefix="calotype-roofline-") as scratch:
        folder = arguments.graphs or Path(scratch)
        graphs = unfused_graphs(arguments.model, folder)
    if arguments.before:
        graphs[STEP] = ir.load(arguments.before)
    stages = {
        role: table(fused_in_turn(model), extents(role, size), gpus)
        for role, model in graphs.items()
        if not role.endswith(NARROW)
    }
    for role in stages:
        if role + NARROW in graphs:
            *_, (_, fused) = fused_in_turn(graphs[role + NARROW])
            stages[role] += table([("in fp16", fused)], extents(role, size), gpus)
    further = [(name, ir.load(path)) for name, path in arguments.stage]
    stages[STEP] += table(further, extents(STEP, size), gpus)
    kept = {role: that_matter(found) for role, found in stages.items()}
    print_tables(kept, arguments.gpu)
    _write(arguments, kept)


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


def extents(role: str, size: int) -> dict[str, int]:
    """Extents of a role's axes for one picture with guidance: two evaluations, two prompts."""
    side = size // SCALE
    return {
        "batch": 2 if role.startswith("text_encoder") else 1,
        "evaluations": 2,
        "height": side,
        "width": side,
        "tokens": 77,
    }


def print_tables(stages: Mapping[str, list[Stage]], gpu: str) -> None:
    """Print stages of each role, kinds of a step before and after, and pictures."""
    for role, found in stages.items():
        _print_stages(f"{role} on {gpu}", found, gpu)
    _print_rows(stages[STEP][0].predictions[gpu], stages[STEP][-1].predictions[gpu])
    _print_pictures(_pictures(stages, gpu))


def _print_stages(title: str, stages: list[Stage], gpu: str) -> None:
    print(
        f"\n{title}\n  {'':24} {'ms':>7} {'worst':>7} {'launches':>8} {'gaps':>6} {'in graph':>8}"
    )
    for stage in stages:
        found = stage.predictions[gpu]
        print(
            f"  {stage.name:24} {found.ms:7.2f} {found.worst_ms:7.2f} {found.launches:8.0f} "
            f"{found.gap_ms:6.2f} {found.gap_in_graph_ms:8.2f}"
        )
    print(f"  {'bound':24} {stages[-1].predictions[gpu].bound_ms:7.2f}")


def _print_rows(before: Prediction, after: Prediction) -> None:
    print(f"\n{STEP}, by kind {'':11} before: ms launches  after: ms launches  at worst")
    first, last = ({row.kind: row for row in each.rows} for each in (before, after))
    for kind in {**first, **last}:
        columns = [_columns(rows.get(kind)) for rows in (first, last)]
        worst = f"{last[kind].worst_ms:9.2f}" if kind in last else ""
        print(f"  {kind:24} {columns[0]} {columns[1]} {worst}")


def _columns(row: Row | None) -> str:
    return f"{row.ms:10.2f} {row.launches:8.0f}" if row else f"{'-':>10} {'-':>8}"


def _pictures(stages: Mapping[str, list[Stage]], gpu: str) -> dict[str, Picture]:
    before, after = (
        {role: found[place].predictions[gpu] for role, found in stages.items()} for place in (0, -1)
    )
    return {
        "before, no CUDA graphs": picture(before, graphs=False),
        "after, no CUDA graphs": picture(after, graphs=False),
        "after, CUDA graphs": picture(after, graphs=True),
        "after, CUDA graphs, at worst": picture(after, graphs=True, worst=True),
    }


def _print_pictures(pictures: Mapping[str, Picture]) -> None:
    print(f"\na picture, ms {'':16} {'text':>6} {'steps':>7} {'VAE':>6} {'sum':>7} {'previews':>8}")
    for name, found in pictures.items():
        print(
            f"  {name:28} {found.text_ms:6.1f} {found.steps_ms:7.1f} {found.decoding_ms:6.1f} "
            f"{found.ms:7.1f} {found.previews_ms:8.1f}"
        )
    print(f"  assumed: {ASSUMED}")


def _write(arguments: argparse.Namespace, stages: Mapping[str, list[Stage]]) -> None:
    """Write the predictions for all GPUs, and the chart of a step on the GPU that was asked for."""
    result: dict[str, Any] = {
        "note": NOTE,
        "model": arguments.model,
        "size": arguments.size,
        "measured_before": {"gpu": "h200", "ms": MEASURED_MS, "launches": MEASURED_LAUNCHES},
        "assumed": ASSUMED,
        "predicted_at": datetime.now(UTC).date().isoformat(),
        "gpus": {name: _on(name, stages) for name in GPUS},
    }
    path = arguments.output or RESULTS / f"roofline_{arguments.model}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_written(result))
    title = (
        f"{arguments.model}, {arguments.size}x{arguments.size}, a guided step on {arguments.gpu}"
    )
    chart = stacked_bars(f"{title}: predicted ms of kernels", arguments.gpu, stages[STEP])
    path.with_suffix(".svg").write_text(chart)
    print(f"\nwritten: {path}, {path.with_suffix('.svg')}")


def _on(gpu: str, stages: Mapping[str, list[Stage]]) -> dict[str, Any]:
    return {
        "figures": asdict(GPUS[gpu]),
        "pictures_ms": {
            name: {**asdict(found), "ms": found.ms}
            for name, found in _pictures(stages, gpu).items()
        },
        "roles": {
            role: [_stage(each.name, each.predictions[gpu]) for each in found]
            for role, found in stages.items()
        },
    }


def _stage(name: str, found: Prediction) -> dict[str, Any]:
    return {
        "stage": name,
        "ms": found.ms,
        "worst_ms": found.worst_ms,
        "bound_ms": found.bound_ms,
        "launches": found.launches,
        "gap_ms": found.gap_ms,
        "gap_in_graph_ms": found.gap_in_graph_ms,
        "rows": [asdict(row) for row in found.rows],
    }


def _written(result: Mapping[str, Any]) -> str:
    """JSON with each innermost object in a line of its own."""
    text = json.dumps(_rounded(result), indent=1)
    return re.sub(r"{[^{}\[]*}", lambda found: " ".join(found[0].split()), text) + "\n"


def _rounded(value: Any) -> Any:
    """Numbers of more than a thousandth, to a thousandth."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) and value > 1e-3 else value


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=GRAPH.onnx")
    return name, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--size", type=int, default=1024, help="of a side; default: 1024")
    parser.add_argument("--gpu", choices=GPUS, default="h200", help="default: h200")
    parser.add_argument("--graphs", type=Path, metavar="FOLDER", help="default: compiled anew")
    parser.add_argument(
        "--before", type=Path, metavar="GRAPH.onnx", help="a step's graph compiled with no fusions"
    )
    parser.add_argument(
        "--stage", type=_named, action="append", default=[], metavar="NAME=GRAPH.onnx",
        help="a further variant of the step's graph, in order",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: in results/")
    return parser


if __name__ == "__main__":
    main()
