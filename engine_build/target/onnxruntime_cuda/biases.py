"""Biases behind matrix products, which have no epilogue in ONNX Runtime's CUDA provider.

A bias is an Add of its own there, and so is that of a Gemm: a kernel writes the bias over the
output, and the product reads it. An operator behind the product adds the bias without a launch of
its own.
"""

from dataclasses import dataclass

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import (
    has_one_reader,
    is_vector,
    producer,
    width,
)


@dataclass(frozen=True, slots=True)
class Biased:
    """A matrix product plus a bias."""

    add: ir.Node
    raw: ir.Value
    """The product without its bias."""
    bias: ir.Value
    """A constant `[C]`."""
    width: int


def biased(value: ir.Value | None) -> Biased | None:
    """The parts of a product with a bias that has one reader; None for any other value."""
    if value is None or not has_one_reader(value):
        return None
    return biased_product(producer(value, "Add"))


def biased_product(add: ir.Node | None) -> Biased | None:
    """The parts of an Add of a bias behind a matrix product; None for any other node."""
    if add is None or add.op_type != "Add":
        return None
    first, second = add.inputs
    raw, bias = (second, first) if is_vector(first) else (first, second)
    if raw is None or bias is None or not is_vector(bias):
        return None
    product = producer(raw, "MatMul", "FusedMatMul")
    extent = width(raw)
    if product is None or extent is None or bias.shape != ir.Shape([extent]):
        return None
    return Biased(add, raw, bias, extent) if has_one_reader(raw) else None
