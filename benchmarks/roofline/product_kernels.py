"""Kernels of products, convolutions and attention."""

import math
from dataclasses import replace

from benchmarks.roofline.call import (
    ATTENTION,
    CONVOLUTION,
    CONVOLUTION_BIAS,
    MEMSET,
    OTHER,
    PRODUCT,
    Cost,
    NodeCall,
)
from benchmarks.roofline.gpus import Rate
from benchmarks.roofline.launches import Launch, Product

# Fitted to the row of the convolutions' biases: cuDNN's addition of a broadcast tensor.
_CUDNN_ADDITION = 2.32e-12

# Products whose tiles' blocks cooperate, which are the large ones, have a Memset before them, and a
# share of the others; counted in the measured steps.
_LARGE, _MEMSETS_OF_THE_SMALL = 20e9, 0.19

_FUSED_HEAD = 256
"""The widest head that cuDNN's attention takes."""

_WIDE_HEAD = 128
"""The head that cuDNN is fastest with."""

_TILED_HEAD = 1024
"""The widest head that ONNX Runtime's own attention takes, CUTLASS' of Ampere, in tiles of 32
queries (`contrib_ops/cuda/bert/cutlass_fmha`): the decoders' heads of 512, in 16 bits and in fp32,
as the provider's own host code launches it in a rehearsal. In fp32 it is taken to be as fast: a
decoder in fp32 was measured with 65 ms, and with 67 it is predicted so."""

_BIASED = 486.9 / 430.9
"""Share of time with a bias on the scores, as of cuDNN on an H100: TFLOP/s without and with one
(github.com/pytorch/pytorch, issue 138493)."""

_LENGTHS, _BIAS = 4, 5
"""Indices of the inputs that are the numbers of keys, and what is added to the scores."""


def product(call: NodeCall) -> Cost:
    """A product by cuBLAS, and the Memset before some products."""
    multiplied = _multiplied(call)
    assert multiplied.product is not None
    large = multiplied.product.flops >= _LARGE
    return Cost((multiplied, Launch(MEMSET, launches=1 if large else _MEMSETS_OF_THE_SMALL)))


def _multiplied(call: NodeCall) -> Launch:
    left, right, result = call.given(0), call.given(1), call.result
    transposed = call.node.attributes.get_int("transA", 0)
    inner = left.shape[-2] if transposed else left.shape[-1]
    batched = len(right.shape) > 2 and math.prod(right.shape[:-2]) > 1
    batch = math.prod(result.shape[:-2]) if batched else 1
    columns = result.shape[-1]
    shape = Product(
        M=result.elements // (columns * batch),
        N=columns,
        K=inner,
        batch=batch,
        size=left.size,
    )
    return Launch(PRODUCT, product=shape, bytes=left.bytes + right.bytes + result.bytes)


def gemm(call: NodeCall) -> Cost:
    """With a vector as bias, a product of cuBLAS fills the output with that bias (K = 1), and the
    next product adds to what it reads there."""
    plain = product(call)
    if len(call.inputs) < 3 or call.inputs[2] is None:
        return plain
    result = call.result
    filled = Launch(PRODUCT, bytes=result.bytes, accesses=result.elements)
    first, *rest = plain.launches
    return Cost((filled, replace(first, bytes=first.bytes + result.bytes), *rest))


def convolution(call: NodeCall) -> Cost:
    """A product over windows, and the bias added in place by a kernel of its own."""
    picture, kernels, result = call.given(0), call.given(1), call.result
    channels = kernels.shape[0]
    product = Product(
        M=result.elements // channels,
        N=channels,
        K=kernels.elements // channels,
        size=picture.size,
    )
    whole = picture.bytes + kernels.bytes + result.bytes
    convolved = Launch(CONVOLUTION, product=product, rate="convolutions", bytes=whole)
    if len(call.inputs) < 3 or call.inputs[2] is None:
        return Cost((convolved,))
    added = Launch(
        CONVOLUTION_BIAS,
        bytes=2 * result.bytes,
        accesses=2 * result.elements,
        extra=_CUDNN_ADDITION * result.elements,
    )
    return Cost((convolved, added))


def attention(call: NodeCall) -> Cost:
    """cuDNN's fused attention of queries `[B, S, C]` with `L` keys; ONNX Runtime's own for wide
    heads and fp32. Biases of queries, keys and values are added by a kernel each before; packed
    ones are copied apart. Heads that are wider still are computed by products and a softmax."""
    query, result = call.given(0), call.result
    heads = call.node.attributes.get_int("num_heads", 1) or 1
    rows, width = query.shape[1], result.shape[2]
    key = call.inputs[1] if len(call.inputs) > 1 else None
    columns = rows if key is None else key.shape[-2 if len(key.shape) == 4 else 1]
    if width // heads > _TILED_HEAD:
        return _unfused(call, heads, rows, columns)
    flops = 4 * result.shape[0] * rows * columns * width
    biased_scores = len(call.inputs) > _BIAS and call.inputs[_BIAS] is not None
    fused = Launch(
        ATTENTION,
        attention=flops * _BIASED if biased_scores else flops,
        rate=_attention_rate(call, width // heads),
        bytes=call.bytes,
    )
    if len(call.inputs) > 3 and call.inputs[3] is not None:
        biased = [
            Launch(OTHER, bytes=2 * each.bytes) for each in call.inputs[:3] if each is not None
        ]
        return Cost((*biased, fused))
    if len(query.shape) < 5:
        return Cost((fused,))
    apart = Launch(
        OTHER, bytes=2 * query.bytes, accesses=2 * query.elements, indices=query.elements
    )
    return Cost((apart, fused))


def _attention_rate(call: NodeCall, head: int) -> Rate:
    if head > _FUSED_HEAD or call.given(0).size > 2:
        return "attention by tiles of 32"
    if head != _WIDE_HEAD:
        return "attention"
    told = len(call.inputs) > _LENGTHS and call.inputs[_LENGTHS] is not None
    return "attention of 128, keys told" if told else "attention of 128"


def _unfused(call: NodeCall, heads: int, rows: int, columns: int) -> Cost:
    result, size = call.result, call.given(0).size
    batch, width = result.shape[0] * heads, result.shape[2] // heads
    scores = batch * rows * columns
    scored = Product(rows, columns, width, batch, size)
    summed = Product(rows, width, columns, batch, size)
    moved = Launch(
        OTHER,
        launches=4,
        bytes=2 * result.bytes,
        accesses=2 * result.elements,
        indices=result.elements,
    )
    return Cost(
        (
            moved,
            Launch(ATTENTION, product=scored, bytes=scores * size + 2 * result.bytes),
            Launch(OTHER, bytes=2 * scores * size, accesses=3 * scores),
            Launch(ATTENTION, product=summed, bytes=scores * size + 2 * result.bytes),
        )
    )
