"""ONNX's numbers of element types, as ONNX Runtime's Python API takes and gives them.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (TensorProto.DataType)
"""

from typing import Any

import numpy as np

from runtime.errors import BackendError

_BF16 = 16

ELEMENT_TYPES = {"F32": 1, "F16": 10, "BF16": _BF16}
"""ONNX's numbers by safetensors' names of the dtypes of weights."""

NUMPY_TYPES = {
    1: "float32",
    2: "uint8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    _BF16: "uint16",
}
"""NumPy's names of the types of our graphs' inputs and outputs; of bf16, which NumPy has not, the
name of a type of the same size."""


def element_type(dtype: "np.dtype[Any]") -> int:
    """ONNX's number of a NumPy type.

    Raises BackendError for other types than those of our graphs; uint16 is none of them, since it
    only stands for bf16.
    """
    numbers = {np.dtype(name): number for number, name in NUMPY_TYPES.items() if number != _BF16}
    if dtype not in numbers:
        known = ", ".join(str(each) for each in numbers)
        raise BackendError(f"an array of {dtype}, expected one of {known}; convert the array")
    return numbers[dtype]
