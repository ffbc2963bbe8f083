"""The builder's flags of an engine, which are part of its identity."""

from runtime.package.target import TF32

REFIT = "REFIT_INDIVIDUAL"
"""The flag of an engine whose weights can be replaced, those that were marked."""


def tensorrt_flags(*, refittable: bool, tf32: bool) -> tuple[str, ...]:
    """TensorRT's."""
    return (REFIT,) * refittable + (TF32,) * tf32


def rtx_flags(*, refittable: bool, tf32: bool) -> tuple[str, ...]:
    """TensorRT for RTX's, whose engines may allocate memory while they run unless a flag forbids
    that; what allocates while it runs cannot be captured as a CUDA graph.

    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/release-notes-1/1.2.html
    """
    return *tensorrt_flags(refittable=refittable, tf32=tf32), "REQUIRE_USER_ALLOCATION"
