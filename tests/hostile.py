"""Bytes and JSON as others wrote them, changed with their structure. Whatever comes of a change, a
reader reads the file or refuses it in one line."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from runtime.errors import CalotypeError, RequestError, in_one_line

LONGEST = 600
"""Characters of an error: what a file says is shown in part."""


def refusal(read: Callable[[Path], object], path: Path) -> str | None:
    """The error in one line with which a reader refuses a file; None for a file that is read.

    Any other error than those that the commands show to people is raised.
    """
    try:
        read(path)
    except RequestError as error:
        # Every fault is told, each in a part of the line.
        message = max((str(fault) for fault in error.faults), key=len)
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


def put(path: Path, content: bytes | str) -> None:
    """Write a file anew. One that is cut to nothing and written again takes milliseconds: ext4 then
    waits for the disk (its `auto_da_alloc`)."""
    path.unlink(missing_ok=True)
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    path.write_bytes(raw)


_ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308, [], {}, [[]], {"": 0}),
    *("", "F32", "BF16", "bogus", "\ud800", "a\nb", "\x1b[31m", "x" * 500, float("nan"), 10**400),
    *(float("inf"), [0, 0], [1, 0], [-4, 0], [0, 2**63], ["0", "4"], [0, 4, 8], [1] * 70, 1e-320),
]
"""Values of every JSON type, and numbers at the limits of 31, 32, 63 and 64 bits."""

_LETTERS = "aZ09._-/\\:,;%<>()[]{}\"' \t\n\r\0\x1b\x7f\x85éß猫😀\u200f\u2028\ud800\udfff\uffff"


def odd_value(chance: Random) -> Any:
    """A value of any JSON type, most often at a limit."""
    kind = chance.randrange(8)
    if kind == 0:
        return chance.getrandbits(chance.choice((4, 16, 63, 130))) * chance.choice((1, -1))
    if kind == 1:
        return odd_text(chance, 6)
    if kind == 2:
        return {odd_text(chance, 3): odd_value(chance)}
    if kind == 3:
        return [odd_value(chance) for _ in range(chance.randrange(4))]
    return copy.deepcopy(chance.choice(_ODD))


def odd_text(chance: Random, longest: int) -> str:
    """Up to so many letters, of those that formats, terminals and encodings trip over."""
    letters = chance.choices(_LETTERS, k=chance.randrange(longest + 1))
    return "".join(letters) if chance.randrange(4) else "".join(map(_any_letter, letters))


def _any_letter(letter: str) -> str:
    return chr((ord(letter) * 7919) % 0x110000)


def hostile_bytes(chance: Random, sound: bytes) -> bytes:
    """A sound file's bytes with one to four places changed, cut out, doubled or put in."""
    content = sound
    for _ in range(chance.randint(1, 4)):
        begin = chance.randint(0, len(content))
        end = min(len(content), begin + chance.choice((0, 1, 2, 4, 16, 10**9)))
        instead = chance.choice((b"", chance.randbytes(chance.randrange(10)), b"\0" * 8))
        if chance.randrange(3) == 0:
            instead = content[begin:end] * 2
        elif end == begin + 1 and chance.randrange(2):
            instead = bytes([content[begin] ^ 1 << chance.randrange(8)])
        content = content[:begin] + instead + content[end:]
    return content


def hostile_json(chance: Random, sound: str) -> str:
    """A sound JSON text with one to three values or names of another kind, or with other bytes."""
    content = json.loads(sound)
    for _ in range(chance.randint(1, 3)):
        content = _changed(chance, content)
    text = json.dumps(content)
    match chance.randrange(20):
        case 0:
            return "[" * 100_000
        case 1 if text.startswith("{") and len(text) > 2:
            return f"{text[:-1]}, {text[1:]}"
        case 2:
            return re.sub(r"\d+", "9" * 5_000, text, count=1)
        case 3 | 4 | 5:
            return hostile_bytes(chance, text.encode()).decode("utf-8", "replace")
    return text


def _changed(chance: Random, content: Any) -> Any:
    places: list[tuple[Any, Any]] = []
    _collect(content, places)
    if not places or chance.randrange(30) == 0:
        return odd_value(chance)
    parent, key = chance.choice(places)
    match chance.randrange(8):
        case 0 if isinstance(parent, dict):
            parent[odd_text(chance, 6)] = parent.pop(key)
        case 1:
            del parent[key]
        case 2 if isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        case 3:
            parent[key] = _of_another_type(parent[key])
        case 4:
            # The value of another place, that is right there.
            other, name = chance.choice(places)
            parent[key] = copy.deepcopy(other[name])
        case _:
            parent[key] = odd_value(chance)
    return content


def _of_another_type(value: Any) -> Any:
    """The same value as careless writers have it: numbers as texts, a list for a single value."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() else [value]
    if isinstance(value, dict):
        return [*value.items()]
    if isinstance(value, list):
        return value[0] if value else {}
    return str(value)


def _collect(content: Any, places: list[tuple[Any, Any]]) -> None:
    """Every member of every object and list."""
    members: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        members = list(content.items())
    elif isinstance(content, list):
        members = list(enumerate(content))
    for key, member in members:
        places.append((content, key))
        _collect(member, places)
