"""Convolutions whose weights are replaced, in a graph that was compiled for weights that stay.

ONNX Runtime's CUDA provider has `com.microsoft.NhwcConv` with constant weights alone, and knows no
other convolution with channels last. A Conv between Transposes takes any; it is slower.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections import defaultdict
from collections.abc import Iterator

from runtime.backends.onnxruntime.protobuf import fields, message, number

# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE = 1
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTS, _ATTRIBUTE_TYPE = 1, 8, 20
_INTS = 7

_NHWC_CONV = b"NhwcConv"
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def with_plain_convolutions(model: bytes) -> bytes:
    """The serialized model with a Conv, channels first, for each NhwcConv. Raises BackendError."""
    return b"".join(
        message(field, _with_plain(content)) if field == _MODEL_GRAPH else whole
        for field, whole, content in fields(model)
    )


def _with_plain(graph: bytes) -> bytes:
    parts = []
    for field, whole, content in fields(graph):
        if field == _GRAPH_NODE and _NHWC_CONV in content:
            parts += [message(_GRAPH_NODE, node) for node in _plain(content)]
        else:
            parts.append(whole)
    return b"".join(parts)


def _plain(node: bytes) -> Iterator[bytes]:
    """What comes in the place of a node; ONNX Runtime joins Transposes that meet."""
    found: dict[int, list[bytes]] = defaultdict(list)
    for field, _, content in fields(node):
        found[field].append(content)
    if found[_OPERATOR] != [_NHWC_CONV]:
        yield node
        return
    picture, weight, *bias = found[_INPUT]
    (output,) = found[_OUTPUT]
    names = [b"%s.%s.first" % (output, part) for part in (b"picture", b"weight", b"output")]
    yield _transpose(picture, names[0], _FIRST)
    yield _transpose(weight, names[1], _FIRST)
    yield b"".join(
        [
            *(message(_INPUT, name) for name in (*names[:2], *bias)),
            message(_OUTPUT, names[2]),
            message(_NAME, names[2]),
            message(_OPERATOR, b"Conv"),
            *(message(_ATTRIBUTE, content) for content in found[_ATTRIBUTE]),
        ]
    )
    yield _transpose(names[2], output, _LAST)


def _transpose(source: bytes, output: bytes, order: tuple[int, ...]) -> bytes:
    permutation = [
        message(_ATTRIBUTE_NAME, b"perm"),
        *(number(_ATTRIBUTE_INTS, axis) for axis in order),
        number(_ATTRIBUTE_TYPE, _INTS),
    ]
    return b"".join(
        [
            message(_INPUT, source),
            message(_OUTPUT, output),
            message(_NAME, output + b".move"),
            message(_OPERATOR, b"Transpose"),
            message(_ATTRIBUTE, b"".join(permutation)),
        ]
    )
