"""Serialized messages of Protocol Buffers, as far as changing an ONNX graph takes.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

from runtime.errors import BackendError

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
"""Bytes of a field's content, by its wire type."""


def fields(encoded: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Each field's number, all of its bytes, and its content, empty where that is a number.

    Raises BackendError for what is no message.
    """
    begin = 0
    while begin < len(encoded):
        key, start = _read_varint(encoded, begin)
        wire_type = key & 7
        if wire_type == _VARINT:
            _, end = _read_varint(encoded, start)
            start = end
        elif wire_type == _BYTES:
            length, start = _read_varint(encoded, start)
            end = start + length
        elif wire_type in _FIXED:
            end = start + _FIXED[wire_type]
        else:
            raise BackendError(f"the graph is no ONNX: a field has the type {wire_type}")
        yield key >> 3, encoded[begin:end], encoded[start:end]
        begin = end


def message(field: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    """A field that is a whole number, at least 0."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def _read_varint(encoded: bytes, begin: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    value = shift = 0
    while True:
        byte = encoded[begin]
        begin += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, begin
        shift += 7


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
