"""Figures of GPUs: from data sheets, from sources, and fitted to measured kernels.

`calibration.py` has the measured rows, of steps of SDXL, Z-Image and Flux Dev at 1024x1024 on an
H200. Fitted figures make those rows come out, and are no prediction there. An H100 SXM has the
H200's multiprocessors, clock and L2 cache, and a slower memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Rate = Literal[
    "products",
    "convolutions",
    "attention",
    "attention of 128",
    "attention of 128, keys told",
    "attention by tiles of 32",
]


@dataclass(frozen=True, slots=True)
class Gpu:
    """Figures of a GPU; seconds, bytes, operations a second."""

    name: str
    bandwidth: float
    """Of the device's memory: a share of the data sheet's that kernels reach which read and write,
    fitted; large copies reach nine tenths."""
    multiprocessors: int = 132
    l2_bytes: int = 50 * 2**20
    l2_bandwidth: float = 5.5e12
    """Published by others for the H100."""
    latency: float = 479 / 1.755e9
    """Of a read from the device's memory: cycles of an H100 (arXiv 2402.13499) at its clock."""
    instructions: float = 0.9 * 67e12 / 2
    """Nine tenths of the data sheet's fp32, of which a multiplication and addition count two."""
    rates: Mapping[Rate, float] = field(
        default_factory=lambda: {
            "products": 771e12,
            "convolutions": 608e12,
            "attention": 363e12,
            "attention of 128": 590e12,
            "attention of 128, keys told": 521e12,
            "attention by tiles of 32": 53e12,
        }
    )
    """Of 16-bit operands (data sheet: 989e12 for dense fp16). By `calibration.py`, but for
    attention by tiles, which is what remains of a decoder's 40 ms: never timed alone. An attention
    that is told its numbers of keys asks of each tile which keys are hidden."""
    ramp: float = 1.3e-6
    """Of a product by cuBLAS: the first loads and the last stores, which no tile's arithmetic
    hides."""
    fastest: float = 989e12
    """Of any 16-bit product, by the data sheet; less where the power is at its limit."""
    fixed: float = 1.1e-6
    """Of a kernel that does nothing; fitted to the row of Memset."""
    access: float = 0.57e-12
    """Of moving one element by a load or store of its own, as ONNX Runtime's elementwise kernels
    do; fitted to the rows of Cast, Mul and Add."""
    index: float = 0.43e-12
    """Of an element's place by divisions; fitted to the rows of the products' biases and Split."""
    unhidden: float = 0.63
    """Share of what a block computes between its reads and its writes that is not hidden behind
    other blocks' bytes, or the reverse; fitted."""
    gap: float = 1.29e-6
    """Between two launches of a session: 3.7 ms between 2,870 launches, measured."""
    gap_in_graph: float = 0.65e-6
    """Between two launches of a CUDA graph, fitted together with `sustained` to three measured
    steps by the clock (`calibration.py`)."""
    sustained: float = 0.041
    """Share that products, attention and convolutions take longer in the steps of whole pictures
    than in the four profiled ones: a calibrated constant. A lower clock at full power is the
    likely reason; no counter has shown the clock."""


_REACHED = 0.834
"""Share of the data sheet's bandwidth, measured on the H200 alone."""

_GPUS = (
    Gpu("h200", bandwidth=_REACHED * 4.8e12),
    Gpu("h100", bandwidth=_REACHED * 3.35e12),
)

GPUS: Mapping[str, Gpu] = {gpu.name: gpu for gpu in _GPUS}
