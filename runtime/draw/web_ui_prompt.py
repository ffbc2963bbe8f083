"""A prompt in the words that make AUTOMATIC1111's web UI, and what reads its texts, draw the same.

The web UI gives a meaning to more syntax than Calotype does, and none of that syntax can be turned
off in a text that is pasted. A prompt that both read alike stands as the user wrote it; another is
written anew from what Calotype made of it, with a backslash in whatever would be more than text
there. The web UI drops a backslash that escapes nothing (`parse_prompt_attention` of
modules/prompt_parser.py), so that a backslash within a word hides the word from it.
"""

import re

from runtime.plan.text.weighting import LARGEST_WEIGHT, Break, Span, parse, plain, unsupported

_SYNTAX = re.compile(r"[()\[\]\\]")

# The web UI drops a backslash that escapes nothing, and ends at a weight that is no number.
_ESCAPED = re.compile(r"\\[()\[\]\\]")
_WEIGHT = re.compile(r":\s*([+-]?[.\d]+)\s*\)")
_BREAK = re.compile(r"\bBREAK\b")
_NETWORK = re.compile(r"<\w+:[^>]+>")

# Where the web UI and Civitai cut a text: a backslash goes before the last letter of the group.
_WORDS = re.compile(r"<(?=\w+(?::|\Z))|\bA(?=ND\b)|\bB(?=REAK\b)")
_CUTS = re.compile(
    r"Negative(?= prompt:)|^\s*(?:Steps|Template|Negative Template)(?=:)", re.MULTILINE
)


def web_ui_prompt(prompt: str, *, weighted: bool) -> str:
    """The prompt for the web UI. `weighted`: whether brackets in the prompt are weights."""
    alike = weighted and "\0" not in prompt and _read_alike(prompt)
    text = prompt if alike else _anew(prompt, weighted=weighted)
    # NUL ends a text in the formats of pictures. A space in its place may be syntax, but in a text
    # that was written anew.
    return _CUTS.sub(r"\g<0>\\", text.replace("\0", " "))


def decimal(weight: float) -> str:
    """A number without an exponent, since the syntax of weights has none."""
    return f"{weight:.6f}".rstrip("0").rstrip(".")


def _read_alike(prompt: str) -> bool:
    """True where the web UI makes of a weighted prompt what `parse` does."""
    in_brackets = _BREAK.search(prompt) and _SYNTAX.search(prompt)
    unescaped = _ESCAPED.sub("", prompt)
    odd = "\\" in unescaped or not all(map(_is_weight, _WEIGHT.findall(unescaped)))
    return not (unsupported(prompt) or _NETWORK.search(prompt) or in_brackets or odd)


def _is_weight(number: str) -> bool:
    try:
        return abs(float(number)) < LARGEST_WEIGHT
    except ValueError:
        return False


def _anew(prompt: str, *, weighted: bool) -> str:
    pieces = parse(prompt) if weighted else plain(prompt)
    return "".join(" BREAK " if isinstance(piece, Break) else _span(piece) for piece in pieces)


def _span(span: Span) -> str:
    text = _WORDS.sub(r"\g<0>\\", _SYNTAX.sub(r"\\\g<0>", span.text))
    return text if span.weight == 1 else f"({text}:{decimal(span.weight)})"
