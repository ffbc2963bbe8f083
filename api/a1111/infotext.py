"""The web UI's text of a picture, read: `parse_generation_parameters` of its infotext_utils.py."""

import json
import re
from collections.abc import Mapping

# Theirs but for its beginning: a name is looked for where a run of its letters begins, and not at
# each of them, which takes hours for a megabyte of letters.
_SETTING = re.compile(
    r"(?<![\w \-/])[ \-/]*(\w[\w \-/]+):"
    r'\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)'
)
_SIZE = re.compile(r"(\d+)x(\d+)", re.ASCII)
_NEGATIVE = "Negative prompt:"
_LEAST_SETTINGS = 3
"""With fewer the last line is no line of settings, but of a prompt."""


def read_infotext(text: str) -> Mapping[str, str]:
    """Prompt, negative prompt and settings by their names; empty for an empty text."""
    if not text.strip():
        return {}
    *lines, last = text.strip().split("\n")
    settings = _SETTING.findall(last)
    if len(settings) < _LEAST_SETTINGS:
        lines, settings = [*lines, last], []
    prompt, found, negative = "\n".join(lines).partition(_NEGATIVE)
    parts = {"Prompt": prompt.strip(), "Negative prompt": negative.strip() if found else ""}
    for name, value in settings:
        if size := _SIZE.fullmatch(value):
            parts[f"{name}-1"], parts[f"{name}-2"] = size.groups()
        else:
            parts[name] = _unquoted(value)
    return parts


def _unquoted(value: str) -> str:
    if not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        text = str(json.loads(value))
        text.encode()  # An escape may name half of a letter, which no answer can hold.
    except ValueError:
        return value
    return text
