"""The measured table that figures of `gpus.py` and `kernels.py` are fitted to, and their fit.

    python -m benchmarks.roofline.calibration [GRAPH.onnx]

prints measured and predicted rows. With the graph that was measured (SDXL's denoiser compiled with
no fusions) its launches are written anew to `sdxl_step.json`, a small description of that graph.

Measured on an H200 with onnxruntime-gpu 1.31.1: kernels of a guided step of one picture of
1024x1024, fp16, with no CUDA graph, by the profiler.

Fitted to the row of its own name, and so no prediction there: the speeds of products (and to one of
8192x8192x8192, timed alone), attention and convolutions, the running mean of layer norms, the
atomics of group norms, cuDNN's addition of a bias. Shared by rows: the fixed time of a kernel
(Memset's row), the time of an access (Cast, Mul, Add), of a place by divisions (biases, Split). Not
fitted: Gelu, by counting instructions.

Never measured, and given a pessimistic time too: SkipLayerNormalization (taken for a kernel that is
limited by its bytes; at worst as the measured layer norm), BiasSplitGelu (as Gelu's kernel with
three accesses and the cheaper erff; at worst Gelu's function), BiasAdd (as Mul's kernel with
three operands; at worst with divisions) and the operators of our own (`own_kernels.py`).
SkipGroupNorm is the measured group norm's code. Products are at worst no faster than 700 TFLOP/s.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from benchmarks.roofline import call
from benchmarks.roofline.call import Cost
from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.launches import Launch, Product
from benchmarks.roofline.prediction import Prediction, costs, launches_of, predicted
from benchmarks.roofline.shapes import shapes_at

MEASURED: Mapping[str, tuple[float, int]] = {
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
"""Milliseconds and launches of a step by kind."""

MEASURED_MS, MEASURED_LAUNCHES = 44.0, 2870
"""Of all kernels of the step, those of no row among them."""

STEP = Path(__file__).parent / "sdxl_step.json"

EXTENTS: Mapping[str, int] = {
    "batch": 1, "evaluations": 2, "height": 128, "width": 128, "tokens": 77
}  # fmt: skip
"""Extents of the measured step."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A measured row beside the predicted row."""

    kind: str
    ms: float
    predicted_ms: float
    launches: int
    predicted_launches: float

    @property
    def error(self) -> float:
        """Relative error of the milliseconds."""
        return self.predicted_ms / self.ms - 1


def fits(prediction: Prediction) -> list[Fit]:
    """Measured rows beside those of a prediction."""
    rows = {row.kind: row for row in prediction.rows}
    return [
        Fit(kind, ms, rows[kind].ms, launches, rows[kind].launches)
        for kind, (ms, launches) in MEASURED.items()
    ]


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


def main() -> None:
    """Print measured beside predicted rows; with a graph, write its launches first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", nargs="?", type=Path, metavar="GRAPH.onnx")
    arguments = parser.parse_args()
    if arguments.graph:
        model = ir.load(arguments.graph)
        STEP.write_text(written(launches_of(costs(model, shapes_at(model, EXTENTS)))))
    found = predicted([Cost(tuple(read(STEP.read_text())))], GPUS["h200"])
    for fit in fits(found):
        print(
            f"{fit.kind:24} {fit.ms:6.1f} ms measured {fit.predicted_ms:6.2f} predicted "
            f"{fit.error:+6.1%} {fit.launches:5} launches measured {fit.predicted_launches:5.0f}"
        )
    print(
        f"{'all':24} {MEASURED_MS:6.1f} ms measured {found.ms:6.2f} predicted "
        f"{found.ms / MEASURED_MS - 1:+6.1%} {MEASURED_LAUNCHES:5} launches measured "
        f"{found.launches:5.0f}"
    )


if __name__ == "__main__":
    main()
