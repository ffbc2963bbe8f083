"""ONNX's numbers of element types, as ONNX Runtime's Python API takes and gives them.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (TensorProto.DataType)
"""

ELEMENT_TYPES = {"F32": 1, "F16": 10, "BF16": 16}
"""ONNX's numbers by safetensors' names of the dtypes of weights."""

NUMPY_TYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
"""NumPy's names of the types that the outputs of our graphs have."""
