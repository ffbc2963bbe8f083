"""Bases of the predictions, by kind of kernel, in words."""

from collections.abc import Mapping

from benchmarks.roofline import call

RESTS_ON = (
    "fitted to steps measured on an H200 (SDXL before and after the fusions, Z-Image, Flux Dev); "
    "those of an H100 are the same but for the memory, and no H100 was measured"
)

_STEPS, _FIRST = "three models' steps", "SDXL's step before the fusions"

BY_KIND: Mapping[str, str] = {
    call.PRODUCT: f"fitted to {_STEPS}",
    call.ATTENTION: "fitted: heads of 64 to SDXL, of 128 to Flux Dev, told their numbers of keys "
    "to Z-Image; a bias on the scores as published; wider heads to what remains of a decoder",
    call.CONVOLUTION: "fitted to SDXL's step",
    call.GATED_SUM_NORM: f"instructions counted; their overlap with bytes fitted to {_STEPS}",
    call.ROTATED_HEADS: f"instructions counted; their overlap with bytes fitted to {_STEPS}",
    call.GATED_ACTIVATION: "bytes; the bandwidth fitted to Z-Image and Flux Dev",
    call.SKIP_NORM: "instructions by estimate; predicts SDXL's step within 1 %",
    call.GROUP_NORM: f"fitted to {_FIRST}; reads that wait for each other counted in its code, "
    "with a published latency",
    call.GATED_GELU: "instructions counted; predicts SDXL's step within 2 %",
    call.BIAS_ADD: "fitted to SDXL's step",
    call.SPLIT: f"fitted to {_FIRST}, and into unequal parts to Flux Dev",
    call.COPY: "fitted to Flux Dev's step",
    call.MEMSET: f"fitted to {_FIRST}; counted in {_STEPS}",
    **dict.fromkeys(
        (call.BIAS, call.MUL, call.ADD, call.CAST, call.CONVOLUTION_BIAS, call.LAYER_NORM),
        f"fitted to {_FIRST}",
    ),
    call.GELU: f"instructions counted; predicts {_FIRST} within 2 %",
    call.OTHER: "as kernels that move an element at a time; Resize fitted to SDXL's step",
}
