"""Kernels that ONNX Runtime's CUDA provider launches for a node, by operator.

From the provider's sources (`onnxruntime/core/providers/cuda`, `contrib_ops/cuda`) and the symbols
of its 1.31: which kernels there are, how often each reads and writes an element, and whether by
vectors, one element at a time, or at a place that divisions find.
"""

from collections.abc import Callable, Mapping

from benchmarks.roofline.call import CAST, GELU, OTHER, Cost, NodeCall
from benchmarks.roofline.elementwise_kernels import (
    FEW,
    NORMAL_DISTRIBUTION,
    SIGMOID,
    TANH_GELU,
    bias_add,
    binary,
    gated_gelu,
    gelu,
    placed,
    reduction,
    resized,
    rotary_embedding,
    softmax,
    split,
    unary,
)
from benchmarks.roofline.norm_kernels import group_norm, layer_norm, skip_group_norm, skip_norm
from benchmarks.roofline.own_kernels import gated_activation, gated_sum_norm, rotated_heads
from benchmarks.roofline.product_kernels import attention, convolution, gemm, product
from runtime.errors import BuildError

Rule = Callable[[NodeCall], Cost]


def cost_of(call: NodeCall, rules: Mapping[str, Rule]) -> Cost:
    """Launches of a node. Raises BuildError for an operator that the rules lack."""
    rule = rules.get(call.operator)
    if rule is None:
        raise BuildError(
            f"{call.operator} ({call.node.name}): its kernels are unknown; "
            "add the operator to benchmarks/roofline/kernels.py"
        )
    return rule(call)


_CHEAP = (
    "Abs", "And", "Ceil", "Clip", "Equal", "Floor", "Greater", "GreaterOrEqual", "IsNaN", "Less",
    "LessOrEqual", "Neg", "Not", "Or", "Reciprocal", "Relu", "Round", "Sign", "Sqrt",
)  # fmt: skip

_FUNCTIONS = ("Cos", "Elu", "Erf", "Exp", "Log", "Pow", "Sigmoid", "Sin", "Softplus", "Tanh")

_PLACED = (
    "ConstantOfShape", "CumSum", "DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND",
    "Pad", "Range", "Concat", "ScatterElements", "ScatterND", "Slice", "Tile", "Transpose", "Trilu",
    "Where",
)  # fmt: skip

_REDUCTIONS = (
    "ArgMax", "ArgMin", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum",
)  # fmt: skip

KERNELS: Mapping[str, Rule] = {
    **dict.fromkeys(_CHEAP, unary(OTHER, FEW)),
    **dict.fromkeys(_FUNCTIONS, unary(OTHER, SIGMOID)),
    **dict.fromkeys(("Add", "Div", "Max", "Min", "Mod", "Mul", "Sub"), binary),
    **dict.fromkeys(_PLACED, placed(OTHER)),
    **dict.fromkeys(_REDUCTIONS, reduction),
    **dict.fromkeys(("FusedMatMul", "MatMul"), product),
    **dict.fromkeys(("Conv", "NhwcConv", "NhwcFusedConv"), convolution),
    **dict.fromkeys(("LayerNormalization", "SimplifiedLayerNormalization"), layer_norm),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), skip_norm),
    **dict.fromkeys(("GroupNorm", "InstanceNormalization"), group_norm),
    "BiasAdd": bias_add,
    "BiasGelu": unary(GELU, NORMAL_DISTRIBUTION),
    "BiasSplitGelu": gated_gelu,
    "Cast": unary(CAST, 0),
    "FastGelu": unary(GELU, TANH_GELU),
    "GatedActivation": gated_activation,
    "GatedSumNorm": gated_sum_norm,
    "Gelu": gelu,
    "Gemm": gemm,
    "MultiHeadAttention": attention,
    "QuickGelu": unary(OTHER, SIGMOID),
    "RotaryEmbedding": rotary_embedding,
    "RotatedHeads": rotated_heads,
    "SkipGroupNorm": skip_group_norm,
    "Resize": resized,
    "Softmax": softmax,
    "Split": split,
}
"""Rules of the operators that are known, by name: those of our graphs, and further ones that the
provider has a kernel for. Operators of ONNX, of ONNX Runtime and of our own have no name in
common here but those that compute alike."""
