"""The choice of a decoder's precision, from its activations while real pictures are made.

A decoder is in fp32 for its range alone. In fp16, SDXL's VAE is predicted to take 25 ms instead of
46 at 1024x1024 on an H200 (benchmarks/results/roofline_sdxl.json), once its stream is small enough
for fp16 (`scaled`). The smallest scale that leaves room for larger activations is taken. A decoder
with larger activations elsewhere stays in fp32.
"""

import math

import onnx_ir as ir

from engine_build.target.activations import fits_fp16, largest_activations
from engine_build.target.onnxruntime_cuda.scaled import stream
from engine_build.target.reference import Reference
from engine_build.target.unfused import graph_file
from runtime.package.engine_record import Narrowing

LARGEST_EXPONENT = 8
"""Scaled weights that are subnormal in fp16 lose digits. Those of the demo's VAE change by 4e-7 of
their rms at 2^-3, by 1e-5 at 2^-6, 8e-5 at 2^-8, and 5e-4 at 2^-10, as much as fp16 rounds off."""


def narrowing(reference: Reference, role: str) -> Narrowing:
    """The precision that fits a role's activations in the reference's pictures.

    Raises BackendError.
    """
    found = largest_activations(reference, role)
    scalable = {value.name for value in stream(ir.load(graph_file(reference.package, role)).graph)}
    in_stream = max((size for name, size in found.items() if name in scalable), default=0.0)
    elsewhere = max((size for name, size in found.items() if name not in scalable), default=0.0)
    exponents = range(LARGEST_EXPONENT + 1)
    fitting = [each for each in exponents if fits_fp16(math.ldexp(in_stream, -each))]
    if not fitting or not fits_fp16(elsewhere):
        return Narrowing("fp32", 0, _if_finite(in_stream), _if_finite(elsewhere))
    return Narrowing("fp16", fitting[0], in_stream, elsewhere)


def _if_finite(magnitude: float) -> float | None:
    return magnitude if math.isfinite(magnitude) else None
