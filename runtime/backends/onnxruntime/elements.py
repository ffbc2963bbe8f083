"""ONNX's numbers of element types, as ONNX Runtime's Python API takes and gives them.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (TensorProto.DataType)
"""

from typing import Any

import numpy as np

ELEMENT_TYPES = {"F32": 1, "F16": 10, "BF16": 16}
"""ONNX's numbers by safetensors' names of the dtypes of weights."""

NUMPY_TYPES = {
    1: "float32",
    2: "uint8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    16: "uint16",
}
"""NumPy's names of the types of our graphs' inputs and outputs; of bf16, which NumPy has not, the
name of a type of the same size."""


def element_type(dtype: "np.dtype[Any]") -> int:
    """ONNX's number of a NumPy type."""
    return next(number for number, name in NUMPY_TYPES.items() if np.dtype(name) == dtype)
