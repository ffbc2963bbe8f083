"""Makes initializers of an ONNX graph replaceable, knowing no more of ONNX than that takes.

An initializer that is an input of its graph too is that input's default, which a caller may
override in every call: ONNX Runtime then folds nothing of it into the graph. Serialized messages
of Protocol Buffers are joined by putting one after the other (repeated fields add up, messages
within are merged in turn), so that inputs are added by appending to the graph's file.

https://protobuf.dev/programming-guides/encoding/#last-one-wins
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections.abc import Iterable

from runtime.backends.onnxruntime.protobuf import message, number
from runtime.package.manifest import Parameter

# TensorProto.DataType, by the names that safetensors has for them.
ELEMENT_TYPES = {"F32": 1, "F16": 10, "BF16": 16}

# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INPUT = 11
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_ELEMENT, _TENSOR_SHAPE = 1, 2
_SHAPE_EXTENT = 1
_EXTENT_VALUE = 1


def with_inputs(model: bytes, parameters: Iterable[Parameter]) -> bytes:
    """The serialized model with these parameters' initializers as inputs that may be left out."""
    inputs = b"".join(message(_GRAPH_INPUT, _value(parameter)) for parameter in parameters)
    return model + message(_MODEL_GRAPH, inputs)


def _value(parameter: Parameter) -> bytes:
    extents = b"".join(
        message(_SHAPE_EXTENT, number(_EXTENT_VALUE, extent)) for extent in parameter.shape
    )
    element = number(_TENSOR_ELEMENT, ELEMENT_TYPES[parameter.dtype])
    tensor = element + message(_TENSOR_SHAPE, extents)
    name = parameter.initializer.encode()
    return message(_VALUE_NAME, name) + message(_VALUE_TYPE, message(_TYPE_TENSOR, tensor))
