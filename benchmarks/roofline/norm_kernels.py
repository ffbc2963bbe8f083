"""Kernels of norms."""

import math

from benchmarks.roofline.call import GROUP_NORM, LAYER_NORM, MEMSET, SKIP_NORM, Cost, NodeCall
from benchmarks.roofline.elementwise_kernels import FEW, SIGMOID
from benchmarks.roofline.launches import Launch
from benchmarks.roofline.value_facts import ValueFacts

# Fitted to the row of layer norms, whose kernel updates a mean by a division for each element.
RUNNING_MEAN = 64

# Of a sum with its bias and a norm, by estimate.
_SUMMED_AND_NORMED = 16

# Fitted to the row of group norms, whose blocks add to few numbers by atomic operations.
_ATOMICS = 3.9e-6

# Of the provider's group norm (`group_norm_common_base.h`), and in its code for sm_90.
_MOST_BLOCKS = 1024
_READ_AT_ONCE = 16


def layer_norm(call: NodeCall) -> Cost:
    """A kernel that loads each element twice, once for a running mean, and stores the result."""
    elements = call.result.elements
    return Cost(
        (
            Launch(
                LAYER_NORM,
                bytes=call.bytes,
                accesses=3 * elements,
                instructions=RUNNING_MEAN * elements,
            ),
        )
    )


def skip_norm(call: NodeCall) -> Cost:
    """One kernel by vectors of eight that keeps a row in registers, a block a row; at worst as the
    measured layer norm, which reads its inputs twice."""
    elements = call.result.elements
    sums = sum(each is not None for each in call.outputs)
    vectors = Launch(
        SKIP_NORM,
        bytes=call.bytes,
        instructions=_SUMMED_AND_NORMED * elements,
        in_phases=True,
    )
    measured = Launch(
        SKIP_NORM,
        bytes=call.bytes,
        accesses=(4 + sums) * elements,
        instructions=RUNNING_MEAN * elements,
    )
    return Cost((vectors,), (measured,))


def group_norm(call: NodeCall) -> Cost:
    """A Memset for the sums, a kernel that sums and a kernel that scales, both by pairs."""
    source = call.given(0)
    return Cost((Launch(MEMSET), *_summed_and_scaled(call, source, sums=1, scales=2)))


def skip_group_norm(call: NodeCall) -> Cost:
    """As a group norm; the kernel that sums also adds, and writes that sum."""
    source, skip = call.given(0), call.given(3)
    whole = skip.elements == source.elements
    return Cost((Launch(MEMSET), *_summed_and_scaled(call, source, sums=2 + whole, scales=2)))


def _summed_and_scaled(
    call: NodeCall, source: ValueFacts, sums: int, scales: int
) -> tuple[Launch, Launch]:
    """The two kernels, with how often each moves an element. A thread goes through its block's
    pixels one after another: a kernel that writes reads the next pixel behind each write, and one
    that only sums reads 16 at once."""
    elements = source.elements
    pairs = elements // 2 if source.size == 2 else elements
    silu = bool(call.node.attributes.get_int("activation", 0))
    pixels = _pixels_of_a_block(call, source)
    summed = Launch(
        GROUP_NORM,
        bytes=sums * source.bytes,
        accesses=sums * pairs,
        waits=pixels if sums > 1 else pixels / _READ_AT_ONCE,
        extra=_ATOMICS,
    )
    scaled = Launch(
        GROUP_NORM,
        bytes=scales * source.bytes,
        accesses=scales * pairs,
        instructions=(SIGMOID if silu else FEW) * elements,
        waits=pixels,
        extra=_ATOMICS,
    )
    return summed, scaled


def _pixels_of_a_block(call: NodeCall, source: ValueFacts) -> int:
    """The pixels of a picture are cut into the most equal parts below 1,024, a block each. A norm
    that the provider hands to cuDNN is not looked at."""
    if call.operator == "InstanceNormalization":
        return 0
    pixels = math.prod(source.shape[1:-1])
    blocks = max((n for n in range(1, min(pixels, _MOST_BLOCKS)) if pixels % n == 0), default=1)
    return pixels // blocks
