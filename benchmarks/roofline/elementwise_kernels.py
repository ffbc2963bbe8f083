"""Kernels that compute each element on its own."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.roofline.call import (
    ADD,
    BIAS,
    BIAS_ADD,
    COPY,
    GATED_GELU,
    GELU,
    MUL,
    OTHER,
    SPLIT,
    Cost,
    NodeCall,
)
from benchmarks.roofline.launches import Launch

# Instructions of arithmetic for an element, counted in what nvrtc makes of them for sm_90.
NORMAL_DISTRIBUTION = 58  # x * normcdff(x), as Gelu computes it
ERROR_FUNCTION = 38  # erff and a division, as BiasSplitGelu computes it
SIGMOID = 24  # expf and a division
TANH_GELU = 30  # tanhf, of which both branches run, and the cube; by estimate
FEW = 4

# Fitted to the 19 Splits of Flux into text and picture, and to the 2 Resizes of SDXL's denoiser;
# the kernels' code for sm_90 has 216 and 88 instructions, of which no element takes all.
_SEARCH, _NEAREST = 24, 52
_TABLES, _COPY = 8, 0.7e-6  # Copies before such a Split, and their time beyond a kernel's.
_SHORT_BLOCK = 27  # Fitted to the row of BiasAdd in SDXL's step.


def unary(kind: str, instructions: int) -> Callable[[NodeCall], Cost]:
    """A kernel that loads an element, computes, and stores the result."""

    def rule(call: NodeCall) -> Cost:
        elements = call.result.elements
        return Cost(
            (
                Launch(
                    kind,
                    bytes=call.bytes,
                    accesses=2 * elements,
                    instructions=instructions * elements,
                ),
            )
        )

    return rule


def binary(call: NodeCall) -> Cost:
    """Two operands of one shape, or a number; else the smaller operand is found by divisions, and
    comes from a cache."""
    elements = call.result.elements
    full = sum(each is not None and each.elements == elements for each in call.inputs)
    single = any(each is not None and each.elements == 1 for each in call.inputs)
    indexed = full < len(call.inputs) and not single
    return Cost(
        (
            Launch(
                _kind_of_binary(call),
                bytes=call.bytes,
                accesses=(full + 1) * elements,
                indices=elements if indexed else 0,
            ),
        )
    )


def _kind_of_binary(call: NodeCall) -> str:
    vector = any(
        constant and each is not None and len(each.shape) == 1
        for each, constant in zip(call.inputs, call.constant, strict=True)
    )
    if call.operator == "Add":
        return BIAS if vector else ADD
    return MUL if call.operator == "Mul" else OTHER


def placed(kind: str) -> Callable[[NodeCall], Cost]:
    """A kernel that finds each element's place by divisions."""

    def rule(call: NodeCall) -> Cost:
        elements = max(call.result.elements, call.given(0).elements if kind == SPLIT else 0)
        return Cost(
            (Launch(kind, bytes=2 * call.result.bytes, accesses=2 * elements, indices=elements),)
        )

    return rule


def split(call: NodeCall) -> Cost:
    """Parts of one size are found by divisions; others are searched for, in tables that are copied
    to the device before."""
    (plain,) = placed(SPLIT)(call).launches
    sizes = {each.shape for each in call.outputs if each is not None}
    if len(sizes) < 2:
        return Cost((plain,))
    searched = replace(plain, instructions=_SEARCH * call.given(0).elements)
    return Cost((searched, Launch(COPY, launches=_TABLES, extra=_COPY)))


def resized(call: NodeCall) -> Cost:
    """The nearest source of each element, by divisions of 64 bits."""
    (plain,) = placed(OTHER)(call).launches
    return Cost((replace(plain, instructions=_NEAREST * call.result.elements),))


def reduction(call: NodeCall) -> Cost:
    """A kernel that loads each element once; its result is small."""
    source = call.given(0)
    return Cost((Launch(OTHER, bytes=source.bytes, accesses=source.elements),))


def gelu(call: NodeCall) -> Cost:
    """GELU by the normal distribution, or approximated by tanh."""
    approximate = call.node.attributes.get_string("approximate", "none")
    return unary(GELU, TANH_GELU if approximate == "tanh" else NORMAL_DISTRIBUTION)(call)


def rotary_embedding(call: NodeCall) -> Cost:
    """A thread for each element, in a block for each head and token: the element, its partner,
    cosine and sine are loaded, and nothing is placed by divisions."""
    return Cost((Launch(OTHER, bytes=call.bytes, accesses=5 * call.result.elements),))


def gated_gelu(call: NodeCall) -> Cost:
    """One kernel that loads two elements and stores one; at worst its function costs what Gelu's
    does."""
    elements = call.result.elements
    found = [
        Launch(GATED_GELU, bytes=call.bytes, accesses=3 * elements, instructions=count * elements)
        for count in (ERROR_FUNCTION, NORMAL_DISTRIBUTION)
    ]
    return Cost((found[0],), (found[1],))


def bias_add(call: NodeCall) -> Cost:
    """Input, bias and residual in one kernel, an element at a time; a block has one row alone, and
    with up to 320 threads soon waits for its end."""
    elements = call.result.elements
    return Cost(
        (
            Launch(
                BIAS_ADD,
                bytes=call.bytes,
                accesses=3 * elements,
                instructions=_SHORT_BLOCK * elements,
            ),
        )
    )


def softmax(call: NodeCall) -> Cost:
    """A kernel that loads each element twice, for the sum and for the quotient, and stores it."""
    source = call.given(0)
    return Cost((Launch(OTHER, bytes=2 * source.bytes, accesses=3 * source.elements),))
