"""The builder's flags of an engine, which are part of its identity."""

from runtime.package.target import TF32

REFIT = "REFIT_INDIVIDUAL"
"""The flag of an engine in which the weights that were marked can be replaced."""


def tensorrt_flags(*, refittable: bool, tf32: bool) -> tuple[str, ...]:
    """The flags of TensorRT's builder."""
    return (REFIT,) * refittable + (TF32,) * tf32


def rtx_flags(*, refittable: bool, tf32: bool) -> tuple[str, ...]:
    """The flags of TensorRT for RTX's builder, whose engines may allocate memory while they run
    unless a flag forbids that; an engine that allocates cannot be captured as a CUDA graph.

    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/release-notes-1/1.2.html
    """
    return *tensorrt_flags(refittable=refittable, tf32=tf32), "REQUIRE_USER_ALLOCATION"
