"""Measured kernels of a step by the kinds of the roofline, out of a result of `benchmarks.gpu`."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.roofline import call

RESULTS = Path(__file__).parent.parent / "results"

_KINDS = {
    call.ATTENTION: r"sdpa|fmha|attention",
    call.CONVOLUTION: r"fprop|conv|nhwcAddPadding|init_device_workspace",
    call.GATED_SUM_NORM: r"^gated_sum_norm",
    call.ROTATED_HEADS: r"^rotated_heads",
    call.GATED_ACTIVATION: r"^gated_activation",
    call.SKIP_NORM: r"SkipLayerNorm",
    call.LAYER_NORM: r"LayerNorm",
    call.GROUP_NORM: r"GroupNorm",
    call.GATED_GELU: r"biasSplitGelu",
    call.BIAS_ADD: r"BiasAdd",
    call.SPLIT: r"::_Split",
    call.PRODUCT: r"nvjet|gemm|cublas|cutlass",
    call.BIAS: r"RhsPerChannel.*OP_Add",
    call.ADD: r"OP_Add",
    call.MUL: r"OP_Mul",
    call.CAST: r"OP_Cast",
    call.MEMSET: r"Memset|^memset",
    call.COPY: r"Memcpy|^memcpy",
}
"""Kinds by patterns of kernels' names; the first match counts."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Kernels of a profiled step by kind, milliseconds and launches, and times by the clock.

    The kernels are the mean of so many steps of one picture: its prelude, which runs once, counts
    by that part.
    """

    model: str
    gpu: str
    profiled_steps: int
    rows: Mapping[str, tuple[float, float]]
    kernels_ms: float
    launches: float
    step_ms: float
    decode_ms: float
    text_ms: float

    @property
    def beside_ms(self) -> float:
        """Milliseconds of a step by the clock beside the kernels of the profiled steps."""
        return self.step_ms - self.kernels_ms


def kind_of(name: str) -> str:
    """Kind of the kernel of this name."""
    return next((kind for kind, found in _KINDS.items() if re.search(found, name)), call.OTHER)


def measured(path: Path) -> Measured:
    """The figures of a result that `benchmarks.gpu` wrote. Raises ValueError where the file holds
    no profiled step."""
    result = json.loads(path.read_text())
    try:
        drawn = result["parts"]["pictures"]["result"]
        profiled, figures = drawn["profiled"], result["figures"]
        rows = _by_kind(profiled["names"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: {error!r}; expected a result of `python -m benchmarks.gpu` whose part "
            "'pictures' ran"
        ) from None
    return Measured(
        model=result["family"],
        gpu=result["machine"]["gpu"],
        profiled_steps=profiled["steps"],
        rows=rows,
        kernels_ms=profiled["kernels_ms_a_step"],
        launches=profiled["launches_a_step"],
        step_ms=figures["in process: step, ms"],
        decode_ms=figures["in process: decode, ms"],
        text_ms=figures["in process: text, ms"],
    )


def _by_kind(names: list[dict[str, float | str]]) -> dict[str, tuple[float, float]]:
    ms: dict[str, float] = defaultdict(float)
    launches: dict[str, float] = defaultdict(float)
    for each in names:
        kind = kind_of(str(each["what"]))
        ms[kind] += float(each["ms"])
        launches[kind] += float(each["launches"])
    return {kind: (ms[kind], launches[kind]) for kind in sorted(ms, key=lambda kind: -ms[kind])}
