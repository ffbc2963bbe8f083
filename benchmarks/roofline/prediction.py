"""Milliseconds and launches of a compiled graph by kind of kernel."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from benchmarks.roofline.call import NECESSARY, Cost, NodeCall
from benchmarks.roofline.gpus import Gpu
from benchmarks.roofline.kernels import KERNELS, Rule, cost_of
from benchmarks.roofline.launches import Launch, seconds
from benchmarks.roofline.session import FREE, Running, running_nodes
from benchmarks.roofline.shapes import known_values
from benchmarks.roofline.value_facts import Shape, ValueFacts

SUSTAINED = 700e12
"""Operations a second of 16-bit products at worst: the clock falls where power is at its limit."""


@dataclass(frozen=True, slots=True)
class Row:
    """Kernels of one kind in one call of a graph."""

    kind: str
    launches: float
    ms: float
    worst_ms: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted time of one call of a graph on a GPU."""

    gpu: str
    rows: tuple[Row, ...]
    gap_ms: float
    """Between kernels, launched one by one."""
    gap_in_graph_ms: float
    """Between kernels of a CUDA graph."""
    sustained: float = 0.0
    """Share that necessary kernels take longer in the steps of whole pictures."""

    @property
    def ms(self) -> float:
        """Kernels alone."""
        return sum(row.ms for row in self.rows)

    @property
    def worst_ms(self) -> float:
        """Kernels alone, if those that were never measured disappoint, L2 holds nothing, and the
        clock falls."""
        return sum(row.worst_ms for row in self.rows)

    @property
    def launches(self) -> float:
        """Launches of kernels, copies and Memsets."""
        return sum(row.launches for row in self.rows)

    @property
    def bound_ms(self) -> float:
        """Products, attention and convolutions alone, as fast as they were measured."""
        return sum(row.ms for row in self.rows if row.kind in NECESSARY)

    @property
    def clock_ms(self) -> float:
        """A call of a CUDA graph by the clock, among others of its kind."""
        return self.ms + self.gap_in_graph_ms + self.sustained * self.bound_ms


def costs(
    model: ir.Model, inputs: Mapping[str, Shape], rules: Mapping[str, Rule] = KERNELS
) -> list[Cost]:
    """Launches of every node that runs, at these shapes of the graph's inputs.

    Raises BuildError for an operator whose shapes or kernels are unknown.
    """
    known = known_values(model, inputs)
    running = running_nodes(model, known)
    read = {value for each in running for value in each.inputs if value is not None}
    read.update(model.graph.outputs)
    calls = (_call(each, known, read) for each in running if each.operator not in FREE)
    return [cost_of(call, rules) for call in calls]


def predicted(found: Iterable[Cost], gpu: Gpu) -> Prediction:
    """Sum of launches by kind, the longest first. At worst nothing is found in the L2 cache, and
    products stay at what a GPU sustains."""
    cold = replace(gpu, l2_bytes=0, fastest=SUSTAINED)
    ms: dict[str, float] = defaultdict(float)
    worst: dict[str, float] = defaultdict(float)
    count: dict[str, float] = defaultdict(float)
    for cost in found:
        for launch in cost.launches:
            ms[launch.kind] += 1e3 * seconds(launch, gpu)
            count[launch.kind] += launch.launches
        for launch in cost.at_worst:
            worst[launch.kind] += 1e3 * seconds(launch, cold)
    rows = [Row(kind, count[kind], ms[kind], worst[kind]) for kind in ms]
    launches = sum(count.values())
    return Prediction(
        gpu=gpu.name,
        rows=tuple(sorted(rows, key=lambda row: -row.ms)),
        gap_ms=1e3 * launches * gpu.gap,
        gap_in_graph_ms=1e3 * launches * gpu.gap_in_graph,
        sustained=gpu.sustained,
    )


def launches_of(found: Sequence[Cost]) -> list[Launch]:
    """All launches, one after another."""
    return [launch for cost in found for launch in cost.launches]


def _call(each: Running, known: Mapping[ir.Value, ValueFacts], read: set[ir.Value]) -> NodeCall:
    outputs = each.node.outputs
    return NodeCall(
        node=each.node,
        operator=each.operator,
        inputs=tuple(None if value is None else known[value] for value in each.inputs),
        constant=each.constant,
        outputs=tuple(
            known[value] if value in read or (index == 0 and value.name) else None
            for index, value in enumerate(outputs)
        ),
    )
