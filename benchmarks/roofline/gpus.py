"""Figures of GPUs: from data sheets, from sources, and fitted to measured kernels.

`calibration.py` has the measured table, of a guided SDXL step of 1024x1024 on an H200. Fitted
figures make rows of that table come out, and are no prediction there. An H100 SXM has the H200's
multiprocessors, clock and L2 cache, and a slower memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Rate = Literal["products", "convolutions", "attention", "attention of 128"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """Figures of a GPU; seconds, bytes, operations a second."""

    name: str
    bandwidth: float
    """Of the device's memory: nine tenths of the data sheet's, as large copies reach."""
    multiprocessors: int = 132
    l2_bytes: int = 50 * 2**20
    l2_bandwidth: float = 5.5e12
    """Published by others for the H100; no row of the table is limited by this figure."""
    instructions: float = 0.9 * 67e12 / 2
    """Nine tenths of the data sheet's fp32, of which a multiplication and addition count two."""
    rates: Mapping[Rate, float] = field(
        default_factory=lambda: {
            "products": 800e12,
            "convolutions": 615e12,
            "attention": 370e12,
            "attention of 128": 580e12,
        }
    )
    """Of 16-bit operands (data sheet: 989e12 for dense fp16), fitted to a row each. Products with
    their ramp: to their row, and to the 790e12 measured at 8192x8192x8192 on the same H200;
    published for cuBLAS on an H100 SXM: 798e12 there, and 741e12 at 6144
    (github.com/pranjalssh/fast.cu). The attention of the table has heads of 64 elements. Heads of
    128 were never measured here: cuDNN's published figures on an H100 are 595e12 to 617e12 for
    2,048 to 16,384 tokens (FlashAttention-3, arXiv 2407.08608, figure 5; heads of 64: 395e12 to
    413e12), and 582e12 on another (github.com/meta-pytorch/tritonbench, issue 141)."""
    ramp: float = 2.0e-6
    """Of a product by cuBLAS: the first loads and the last stores, which no tile's arithmetic
    hides; a tile's stores alone take 1.6e-6 at a multiprocessor's share of the L2 cache."""
    fastest: float = 989e12
    """Of any 16-bit product, by the data sheet; less where the power is at its limit."""
    fixed: float = 1.1e-6
    """Of a kernel that does nothing; fitted to the row of Memset."""
    access: float = 0.57e-12
    """Of moving one element by a load or store of its own, as ONNX Runtime's elementwise kernels
    do; fitted to the rows of Cast, Mul and Add."""
    index: float = 0.43e-12
    """Of an element's place by divisions; fitted to the rows of the products' biases and Split."""
    gap: float = 1.29e-6
    """Between two launches of a session: 3.7 ms between 2,870 launches, measured."""
    gap_in_graph: float = 0.8e-6
    """Between two launches of a CUDA graph: an assumption, not measured."""


_GPUS = (
    Gpu("h200", bandwidth=0.9 * 4.8e12),
    Gpu("h100", bandwidth=0.9 * 3.35e12),
)

GPUS: Mapping[str, Gpu] = {gpu.name: gpu for gpu in _GPUS}
