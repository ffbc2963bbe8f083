"""Facts of ONNX Runtime 1.31's CUDA provider, on the operators that our graphs are made of.

The facts come from the provider's sources (paths below are relative to
`onnxruntime/core/providers/cuda/`), from its list of kernels, and from the strings of
`libonnxruntime_providers_cuda.so` 1.31.1: the names of kernel classes, which contain dtypes, and
the CUDA calls that its error messages spell out. An operator in no table here may still be fit for
a capture: nobody has looked at such an operator.

https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md
"""

from collections.abc import Mapping

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.operators import OPERATORS
from engine_build.target.onnxruntime_cuda.patterns import DOMAIN, OURS

LARGEST_CONCAT = 32
"""The most inputs of a Concat in a capture (tensor/concat.cc): pointers to more inputs go through
the host, which the kernel refuses in a capture. Split passes the pointers to its outputs in a
buffer that a capture keeps, and has no such bound (tensor/split.cc)."""

_ANY = tuple(range(8))

READ_ON_HOST: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": _ANY,
    "CumSum": (1,),
    "Expand": (1,),
    "Pad": (1, 3),
    "Range": _ANY,
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that CUDA's kernels want in the host's memory, by operator."""

MADE_ON_HOST = frozenset({"Shape", "Size"})
"""Operators that read a shape alone, and leave their output in the host's memory."""

WAITING: Mapping[str, str] = {
    "Compress": "tensor/compress.cc",
    "NonMaxSuppression": "object_detection/non_max_suppression_impl.cu",
    "NonZero": "tensor/nonzero_op.cc",
}
"""Operators whose kernels wait for the device, since their results decide a shape, each with the
source file that shows this."""

_FP32, _FP16, _BF16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
_WHOLE = frozenset({ir.DataType.INT32, ir.DataType.INT64})
_TWO_FLOATS = frozenset({_FP32, _FP16})
_FLOATS = _TWO_FLOATS | {_BF16}
_NUMBERS = _FLOATS | _WHOLE
_BITS = frozenset({ir.DataType.BOOL})
_ALL = _NUMBERS | _BITS | {ir.DataType.UINT8}

_KERNELS: Mapping[str, Mapping[str, frozenset[ir.DataType]]] = {
    "": {
        # They move elements, of whatever dtype.
        **dict.fromkeys(
            ("Cast", "Concat", "ConstantOfShape", "Expand", "Gather", "Identity"), _ALL
        ),
        **dict.fromkeys(("Reshape", "Shape", "Size", "Slice", "Split", "Squeeze"), _ALL),
        **dict.fromkeys(("Transpose", "Unsqueeze"), _ALL),
        "DepthToSpace": _TWO_FLOATS,
        "GatherND": _FLOATS | _BITS | {ir.DataType.INT64},
        "Pad": _TWO_FLOATS | _BITS,
        "Tile": _TWO_FLOATS | _WHOLE,
        "Trilu": _ALL,
        # They compute with elements, or compare them.
        **dict.fromkeys(("Add", "Div", "Max", "Min", "Mod", "Mul", "Sub"), _NUMBERS),
        "Equal": _TWO_FLOATS | _WHOLE | _BITS,
        **dict.fromkeys(("Greater", "GreaterOrEqual", "Less"), _TWO_FLOATS | _WHOLE),
        "LessOrEqual": _TWO_FLOATS | _WHOLE,
        **dict.fromkeys(("And", "Not", "Or"), _BITS),
        "Clip": _TWO_FLOATS | {ir.DataType.INT64},
        **dict.fromkeys(("Cos", "Exp", "Gelu", "Relu", "Sigmoid", "Sin", "Sqrt", "Tanh"), _FLOATS),
        **dict.fromkeys(("Log", "Reciprocal", "Round"), _TWO_FLOATS),
        **dict.fromkeys(("Abs", "Neg"), _NUMBERS),
        "Pow": _TWO_FLOATS | _WHOLE,
        "Where": _FLOATS | _WHOLE | {ir.DataType.UINT8},
        # They compute with rows, matrices or pictures.
        "ArgMax": _TWO_FLOATS,
        "CumSum": _TWO_FLOATS | _WHOLE,
        "Range": _WHOLE | {_FP32},
        **dict.fromkeys(("ReduceMax", "ReduceMin"), _TWO_FLOATS | _WHOLE),
        "ReduceMean": _FLOATS | {ir.DataType.INT32},
        "ReduceProd": _TWO_FLOATS | {ir.DataType.INT32},
        "ReduceSum": _NUMBERS,
        "TopK": _TWO_FLOATS | _WHOLE,
        **dict.fromkeys(("InstanceNormalization", "Resize"), _TWO_FLOATS),
        **dict.fromkeys(("Conv", "Gemm", "LayerNormalization", "MatMul", "Softmax"), _FLOATS),
    },
    DOMAIN: {
        **dict.fromkeys(("BiasAdd", "BiasSplitGelu"), _TWO_FLOATS),
        **dict.fromkeys(("GroupNorm", "NhwcConv", "SkipGroupNorm"), _TWO_FLOATS),
        **dict.fromkeys(("BiasGelu", "FusedMatMul"), _FLOATS),
        **dict.fromkeys(("MultiHeadAttention", "SkipLayerNormalization"), _FLOATS),
    },
    OURS: dict.fromkeys(OPERATORS, _FLOATS),
}
"""Dtypes of an operator's kernels, by domain: of its first input, where `_KEYED_BY` names none."""

_KEYED_BY = {"Where": 1}


def is_known(node: ir.Node) -> bool:
    """True where the tables have an entry for an operator."""
    return node.op_type in _KERNELS.get(node.domain, ()) or node.op_type in WAITING


def has_kernel(node: ir.Node) -> bool:
    """True where CUDA has a kernel for a node's operator and dtype, or one of them is unknown."""
    dtypes = _KERNELS.get(node.domain, {}).get(node.op_type)
    dtype = keyed_by(node)
    return dtypes is None or dtype is None or dtype in dtypes


def takes(op_type: str, dtype: ir.DataType | None) -> bool:
    """True where one of ONNX Runtime's own operators has a kernel for a dtype."""
    return dtype in _KERNELS[DOMAIN][op_type]


def keyed_by(node: ir.Node) -> ir.DataType | None:
    """The dtype that decides which kernel a node takes."""
    index = _KEYED_BY.get(node.op_type, 0)
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None else value.dtype
