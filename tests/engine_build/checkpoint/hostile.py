"""Files as nobody should write them: headers of safetensors files, changed with their structure."""

import json
import struct
from typing import Any

from hypothesis import strategies as st

from engine_build.checkpoint.headers import _BITS
from tests.hostile import ODD_VALUES

_NAMES = st.one_of(
    st.sampled_from(["a.weight", "b.alpha", "__metadata__", "\ud800", "", "a\nb", "../x", "\0"]),
    st.text(max_size=5),
)
_COUNTS = st.lists(st.integers(0, 5), max_size=4)
_METADATA = st.dictionaries(_NAMES, st.one_of(st.text(max_size=9), ODD_VALUES), max_size=3)


@st.composite
def _entries(draw: st.DrawFn) -> dict[str, Any]:
    """Tensors that lie one after another, as they should."""
    header: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(_NAMES, max_size=4, unique=True)):
        dtype, shape = draw(st.sampled_from(sorted(_BITS))), draw(_COUNTS)
        bits = _BITS[dtype]
        for extent in shape:
            bits *= extent
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [position, position + bits // 8],
        }
        position += bits // 8
    return header


@st.composite
def hostile_files(draw: st.DrawFn) -> bytes:
    """The bytes of a file, with up to three changes of a sound one."""
    header: Any = draw(_entries())
    size = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.one_of(_METADATA, ODD_VALUES))
    for _ in range(draw(st.integers(0, 3))):
        _change(draw, header)
    text = json.dumps(header, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        text = _spoiled(draw, text)
    encoded = text.encode("utf-8", "surrogatepass")
    length = draw(st.sampled_from([len(encoded)] * 4 + [0, 1, len(encoded) + 9, 2**63, 2**64 - 1]))
    whole = struct.pack("<Q", length) + encoded + bytes(min(size, 4096))
    return whole[: draw(st.sampled_from([len(whole)] * 4 + [0, 5, 8, 12, len(whole) - 1]))]


def _change(draw: st.DrawFn, header: dict[str, Any]) -> None:
    name = draw(st.sampled_from(sorted(header, key=repr))) if header else draw(_NAMES)
    entry = header.get(name)
    if isinstance(entry, dict) and entry and draw(st.booleans()):
        entry[draw(st.sampled_from(sorted(entry, key=repr)))] = draw(ODD_VALUES)
    elif draw(st.booleans()):
        header[name] = draw(ODD_VALUES)
    elif name in header:
        header[draw(_NAMES)] = header.pop(name)


def _spoiled(draw: st.DrawFn, text: str) -> str:
    at = draw(st.integers(0, len(text)))
    match draw(st.sampled_from(["twice", "cut", "deep", "letter", "wide"])):
        case "twice" if len(text) > 2:
            return f"{text[:-1]}, {text[1:]}"
        case "cut":
            return text[:at]
        case "deep":
            return "[" * 100_000
        case "letter":
            return text[:at] + draw(st.characters()) + text[at:]
        case "wide":
            return text + " " * 5_000
    return text
