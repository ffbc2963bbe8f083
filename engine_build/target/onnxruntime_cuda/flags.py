"""The flags of a compiled graph, which are part of its identity."""

from engine_build.target.onnxruntime_cuda import VERSION
from runtime.package.target import TF32


def cuda_flags(*, refittable: bool, tf32: bool) -> tuple[str, ...]:  # noqa: ARG001
    """The version of the fusions, and TF32. Any graph's weights can be replaced, without a flag."""
    return (f"fusions {VERSION}",) + (TF32,) * tf32
