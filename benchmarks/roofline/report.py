"""Tables and JSON of a model's predictions, by role and stage."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.picture import ASSUMED, STEP, Picture, picture
from benchmarks.roofline.prediction import Prediction, Row
from benchmarks.roofline.rests_on import BY_KIND, RESTS_ON
from benchmarks.roofline.stages import BEFORE, Stage

Stages = Mapping[str, Sequence[Stage]]
"""Stages by role. The last is what is compiled; the first is before any fusion, or is the only one
of a graph that did not exist then."""


def print_tables(stages: Stages, gpu: str, steps: int) -> None:
    """Print stages of each role, kinds of a step before and after, and a picture of all steps."""
    for role, found in stages.items():
        _print_stages(f"{role} on {gpu}", found, gpu)
    print(f"\nfigures, {gpu}: {RESTS_ON}")
    _print_rows(stages[STEP][0].predictions[gpu], stages[STEP][-1].predictions[gpu])
    _print_pictures(_pictures(stages, gpu, steps))


def _print_stages(title: str, stages: Sequence[Stage], gpu: str) -> None:
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


def _pictures(stages: Stages, gpu: str, steps: int) -> dict[str, Picture]:
    after = {role: found[-1].predictions[gpu] for role, found in stages.items()}
    first = {role: found[0] for role, found in stages.items() if found[0].name == BEFORE}
    before = {role: stage.predictions[gpu] for role, stage in first.items()}
    return {
        "before, no CUDA graphs": picture(before, steps, graphs=False),
        "after, no CUDA graphs": picture(after, steps, graphs=False),
        "after, CUDA graphs": picture(after, steps, graphs=True),
        "after, CUDA graphs, at worst": picture(after, steps, graphs=True, worst=True),
    }


def _print_pictures(pictures: Mapping[str, Picture]) -> None:
    print(f"\na picture, ms {'':16} {'text':>6} {'steps':>7} {'VAE':>6} {'sum':>7} {'previews':>8}")
    for name, found in pictures.items():
        print(
            f"  {name:28} {found.text_ms:6.1f} {found.steps_ms:7.1f} {found.decoding_ms:6.1f} "
            f"{found.ms:7.1f} {found.previews_ms:8.1f}"
        )
    print(f"  assumed: {ASSUMED}")


def written(facts: Mapping[str, Any], stages: Stages, steps: int) -> str:
    """JSON of facts and of the predictions for all GPUs, each innermost object in its own line."""
    gpus = {name: _on(name, stages, steps) for name in GPUS}
    result = {
        **facts, "steps": steps, "assumed": ASSUMED, "rests_on": RESTS_ON, "by_kind": BY_KIND,
        "gpus": gpus,
    }  # fmt: skip
    text = json.dumps(_rounded(result), indent=1)
    return re.sub(r"{[^{}\[]*}", lambda found: " ".join(found[0].split()), text) + "\n"


def _on(gpu: str, stages: Stages, steps: int) -> dict[str, Any]:
    return {
        "figures": asdict(GPUS[gpu]),
        "pictures_ms": {
            name: {**asdict(found), "ms": found.ms}
            for name, found in _pictures(stages, gpu, steps).items()
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


def _rounded(value: Any) -> Any:
    """Numbers of more than a thousandth, to a thousandth."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) and value > 1e-3 else value
