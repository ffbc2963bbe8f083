"""Bytes and JSON as others wrote them, changed with their structure. Whatever comes of a change, a
reader reads the file or refuses it in one line."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from runtime.errors import CalotypeError, in_one_line

LONGEST = 600
"""Characters of an error: what a file says is shown in part."""


def refusal(read: Callable[[Path], object], path: Path) -> str | None:
    """The error in one line with which a reader refuses a file; None for a file that is read.

    Any other error than those that the commands show to people is raised.
    """
    try:
        read(path)
    except CalotypeError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}"
    else:
        return None
    message = in_one_line(message)
    assert message.isprintable()
    assert len(message) < LONGEST + 2 * len(str(path)), message
    return message


ODD_VALUES = st.one_of(
    st.sampled_from(
        [
            *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308, [], {}, [[]]),
            *("", "F32", "BF16", "bogus", "\ud800", "a\nb", "\x1b[31m", "x" * 500, float("nan")),
            *(float("inf"), [0, 0], [1, 0], [-4, 0], [0, 2**63], ["0", "4"], [0, 4, 8], [1] * 70),
        ]
    ),
    st.integers(),
    st.text(max_size=6),
).map(copy.deepcopy)
"""Values of every JSON type, and numbers at the limits of 31, 32, 63 and 64 bits."""


@st.composite
def hostile_bytes(draw: st.DrawFn, sound: bytes) -> bytes:
    """A sound file's bytes with one to four places changed, cut out, doubled or put in."""
    content = sound
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.sampled_from([0, 1, 2, 4, 16, 10**9])))
        piece = content[begin:end]
        instead = draw(st.one_of(st.binary(max_size=9), st.just(b""), st.just(piece * 2)))
        content = content[:begin] + instead + content[end:]
    return content


@st.composite
def hostile_json(draw: st.DrawFn, sound: Any) -> str:
    """A JSON text with one to three values of another kind, or names, or with spoiled bytes."""
    content = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        content = _changed(draw, content)
    text = json.dumps(content)
    if draw(st.integers(0, 4)) == 0:
        return draw(st.one_of(hostile_bytes(text.encode()).map(lossy), st.just("[" * 100_000)))
    return text


def lossy(content: bytes) -> str:
    """The text of bytes that may be none."""
    return content.decode("utf-8", "replace")


def _changed(draw: st.DrawFn, content: Any) -> Any:
    places: list[tuple[Any, Any]] = []
    _collect(content, places)
    if not places or draw(st.integers(0, 30)) == 0:
        return draw(ODD_VALUES)
    parent, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["value", "value", "value", "name", "gone"])):
        case "name" if isinstance(parent, dict):
            parent[draw(st.text(max_size=6))] = parent.pop(key)
        case "gone":
            del parent[key]
        case _:
            parent[key] = draw(ODD_VALUES)
    return content


def _collect(content: Any, places: list[tuple[Any, Any]]) -> None:
    """Every member of every object and list, but for the long ones' middles."""
    members: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        members = list(content.items())
    elif isinstance(content, list):
        members = list(enumerate(content))
    for key, member in members[:40]:
        places.append((content, key))
        _collect(member, places)
