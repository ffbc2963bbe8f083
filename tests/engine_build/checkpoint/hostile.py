"""Files as nobody should write them: headers of safetensors files, changed with their structure."""

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

from engine_build.checkpoint.headers import _BITS
from tests.hostile import hostile_bytes, odd_text, odd_value

_DTYPES = sorted(_BITS)

NAMES = ("a.weight", "b.alpha", "__metadata__", "\ud800", "", "a\nb", "../x", "\0")

METADATA = ("format", "ss_network_alpha", "modelspec.architecture", "v", "1e400", "{", "x")


def hostile_file(chance: Random, names: Sequence[str] = NAMES) -> bytes:
    """The bytes of a file, with up to three changes of a sound one. Most tensors have a name of
    `names`."""
    header: Any = _entries(chance, names)
    size = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if chance.randrange(2):
        header["__metadata__"] = _metadata(chance)
    for _ in range(chance.randrange(4)):
        _change(chance, header, names)
    text = json.dumps(header, ensure_ascii=chance.randrange(2) == 0)
    if chance.randrange(2):
        text = _spoiled(chance, text)
    encoded = text.encode("utf-8", "surrogatepass")
    length = len(encoded)
    if chance.randrange(4) == 0:
        length = chance.choice((0, 1, len(encoded) + 9, 2**63, 2**64 - 1))
    body = bytes(min(size, 4096)) if chance.randrange(2) else chance.randbytes(min(size, 4096))
    whole = struct.pack("<Q", length) + encoded + body
    return whole if chance.randrange(4) else whole[: chance.choice((0, 5, 8, 12, len(whole) - 1))]


def hostile_tensors(chance: Random, sound: bytes, names: Sequence[str] = NAMES) -> bytes:
    """A sound file with up to two changes of its header, and one of its numbers or bytes."""
    begin = 8 + struct.unpack("<Q", sound[:8])[0]
    header, body = json.loads(sound[8:begin]), bytearray(sound[begin:])
    for _ in range(chance.randrange(3)):
        _change(chance, header, names)
    if chance.randrange(4) == 0:
        header["__metadata__"] = _metadata(chance)
    if chance.randrange(4) == 0:
        entry = chance.choice(list(header.values()) or [None])
        if isinstance(entry, dict) and isinstance(entry.get("shape"), list):
            chance.shuffle(entry["shape"])
    if body and chance.randrange(2):
        at = 4 * chance.randrange(max(1, len(body) // 4))
        body[at : at + 4] = struct.pack("<f", chance.choice(_NUMBERS))
    encoded = json.dumps(header).encode()
    whole = struct.pack("<Q", len(encoded)) + encoded + body
    return hostile_bytes(chance, whole) if chance.randrange(8) == 0 else whole


_NUMBERS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 3e38, 1e-45, 65505.0)


def _entries(chance: Random, names: Sequence[str]) -> dict[str, Any]:
    """Tensors that lie one after another, as they should."""
    header: dict[str, Any] = {}
    position = 0
    for _ in range(chance.randrange(5)):
        dtype = chance.choice(_DTYPES if chance.randrange(2) else ("F32", "F16"))
        shape = [chance.randrange(6) for _ in range(chance.randrange(5))]
        bits = _BITS[dtype]
        for extent in shape:
            bits *= extent
        header[_name(chance, names)] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [position, position + bits // 8],
        }
        position += bits // 8
    return header


def _name(chance: Random, names: Sequence[str]) -> str:
    return chance.choice(names) if chance.randrange(4) else odd_text(chance, 5)


def _metadata(chance: Random) -> Any:
    if chance.randrange(4) == 0:
        return odd_value(chance)
    return {
        _name(chance, METADATA): (
            odd_value(chance) if chance.randrange(2) else chance.choice(METADATA)
        )
        for _ in range(chance.randrange(4))
    }


def _change(chance: Random, header: dict[str, Any], names: Sequence[str]) -> None:
    name = chance.choice(list(header)) if header else _name(chance, names)
    entry = header.get(name)
    if isinstance(entry, dict) and entry and chance.randrange(2):
        entry[chance.choice(list(entry))] = odd_value(chance)
    elif chance.randrange(2):
        header[name] = odd_value(chance)
    elif name in header:
        header[_name(chance, names)] = header.pop(name)


def _spoiled(chance: Random, text: str) -> str:
    at = chance.randint(0, len(text))
    match chance.randrange(6):
        case 0 if len(text) > 2:
            return f"{text[:-1]}, {text[1:]}"
        case 1:
            return text[:at]
        case 2:
            return "[" * 100_000
        case 3:
            return text[:at] + odd_text(chance, 1) + text[at:]
        case 4:
            return text + " " * 5_000
    return text
