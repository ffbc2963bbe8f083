"""Prompt emphasis as AUTOMATIC1111's web UI writes it: a prompt becomes spans with weights.

    (text)      1.1 times           \\( \\) \\[ \\] \\\\    the character itself
    [text]      1 / 1.1 times       BREAK             the text after it starts a new chunk
    (text:1.3)  1.3 times           nested brackets multiply

Any string parses. A bracket that is never closed reaches to the end of the prompt; one that was
never opened is text. This is the published behaviour of the web UI's `parse_prompt_attention`,
with four deliberate differences, each in favour of what the user wrote: a backslash that escapes
nothing stays in the text, BREAK also works inside brackets, a number that is no finite weight is
text, and no product of weights leaves +-`LARGEST_WEIGHT`.

What the web UI handles elsewhere (`<lora:...>`, `[from:to:when]`, `[a|b]`, AND) is text here, and
`unsupported` says so. No tokenizer and no model belongs in this file.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

import numpy as np

from runtime.plan.hints import tag_hint

ROUND_FACTOR = 1.1
SQUARE_FACTOR = 1 / 1.1
LARGEST_WEIGHT = 1e6
"""Limit on products of nested weights; a larger one loses the other tokens in fp32."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text, without its syntax, and the weight of each of its tokens."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Break:
    """BREAK: what follows starts a new chunk."""


Piece: TypeAlias = Span | Break


def parse(prompt: str) -> tuple[Piece, ...]:
    """The prompt's spans in order, neighbours of equal weight joined, and its breaks.

    No span is empty: a prompt with no text gives `()`. Weights are finite.
    """
    reading = _read(prompt)
    weights = np.ones(len(reading.texts))
    for start, end, factor in reading.emphases:
        emphasised = weights[start:end]
        np.clip(emphasised * factor, -LARGEST_WEIGHT, LARGEST_WEIGHT, out=emphasised)
    return tuple(_joined(reading.texts, weights.tolist()))


def plain(prompt: str) -> tuple[Span, ...]:
    """The prompt as one span, brackets included, for requests without weighting."""
    return (Span(prompt, 1.0),)


def in_one_piece(prompt: str, *, weighted: bool) -> tuple[Span, ...]:
    """The spans of a prompt for a model without chunks, with a space for each BREAK.

    An unweighted prompt is one span, brackets included.
    """
    if not weighted:
        return plain(prompt)
    space = Span(" ", 1.0)
    return tuple(space if isinstance(piece, Break) else piece for piece in parse(prompt))


def text_of(spans: Iterable[Span]) -> str:
    """The text of the spans, joined."""
    return "".join(span.text for span in spans)


def unsupported(prompt: str, *, weighted: bool = True) -> tuple[str, ...]:
    """One sentence for each kind of the web UI's syntax that `parse` leaves as text.

    Each quotes the first of its kind. One more says when a product of weights was held at the
    limit. Of an unweighted prompt, in which brackets are meant as text, tags alone are told.
    """
    foreign = _read(prompt).foreign
    if not weighted:
        foreign = {reason: tag for reason, tag in foreign.items() if reason == _NETWORK_REASON}
    warnings = [
        f"{_shortened(found)!r} is taken as text: {tag_hint(found) or reason}."
        for reason, found in foreign.items()
    ]
    if not weighted:
        return tuple(warnings)
    weights = [piece.weight for piece in parse(prompt) if isinstance(piece, Span)]
    if any(abs(weight) >= LARGEST_WEIGHT for weight in weights):
        warnings.append(f"An emphasis was held at the limit of {LARGEST_WEIGHT:.0f}.")
    return tuple(warnings)


_TOKEN = re.compile(
    r"""
      \\ (?P<escaped> [()\[\]\\] )
    | (?P<network> < \w+ : [^<>]+ > )
    | : \s* (?P<number> [+-]? [.\d]+ ) \s* (?P<closing> [)\]] )
    | (?P<bracket> [()\[\]] )
    | (?P<text> [^\\()\[\]:<]+ | [\\:<] )
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"\bAND\b")

_NETWORK_REASON = 'name LoRAs in the request\'s "loras"'
_EDITING_REASON = "a prompt cannot change or alternate between steps"
_AND_REASON = "prompts cannot be combined with AND"


@dataclass(slots=True)
class _SquareBracket:
    """An open `[`: where it stands in the texts and in the prompt."""

    index: int
    offset: int
    alternates: bool = False


@dataclass(slots=True)
class _Reading:
    """State of the parser.

    Emphases are ranges of `texts` with a factor, in the order in which they close; `foreign` maps
    the reason for which a kind of syntax is not ours to the first piece of it in the prompt.
    """

    prompt: str
    texts: list[str | Break] = field(default_factory=list)
    emphases: list[tuple[int, int, float]] = field(default_factory=list)
    foreign: dict[str, str] = field(default_factory=dict)
    round_brackets: list[int] = field(default_factory=list)
    square_brackets: list[_SquareBracket] = field(default_factory=list)

    def read(self, token: re.Match[str]) -> None:
        match token.lastgroup:
            case "escaped":
                self.texts.append(token["escaped"])
            case "network":
                self.texts.append(token[0])
                self.foreign.setdefault(_NETWORK_REASON, token[0])
            case "closing":
                self._close_with_number(token)
            case "bracket":
                self._bracket(token[0], token.start())
            case _:
                self._text(token[0])

    def finish(self) -> None:
        """The spans of the whole prompt; brackets that are still open reach to its end."""
        while self.round_brackets:
            self._emphasise(self.round_brackets.pop(), ROUND_FACTOR)
        while self.square_brackets:
            self._emphasise(self.square_brackets.pop().index, SQUARE_FACTOR)

    def _bracket(self, bracket: str, offset: int) -> None:
        if bracket == "(":
            self.round_brackets.append(len(self.texts))
        elif bracket == "[":
            self.square_brackets.append(_SquareBracket(len(self.texts), offset))
            # Room for the bracket itself, in case it turns out to be no emphasis.
            self.texts.append("")
        elif bracket == ")" and self.round_brackets:
            self._emphasise(self.round_brackets.pop(), ROUND_FACTOR)
        elif bracket == "]" and self.square_brackets:
            opened = self.square_brackets.pop()
            if opened.alternates:
                self._keep_square(opened, "]", offset + 1)
            else:
                self._emphasise(opened.index, SQUARE_FACTOR)
        else:
            self.texts.append(bracket)

    def _close_with_number(self, token: re.Match[str]) -> None:
        if token["closing"] == "]" and self.square_brackets:
            self._keep_square(self.square_brackets.pop(), token[0], token.end())
        elif token["closing"] == ")" and self.round_brackets:
            weight = _finite(token["number"])
            if weight is None:
                self.texts.append(token[0][:-1])
            self._emphasise(self.round_brackets.pop(), ROUND_FACTOR if weight is None else weight)
        else:
            self.texts.append(token[0])

    def _text(self, text: str) -> None:
        if "|" in text and self.square_brackets:
            self.square_brackets[-1].alternates = True
        if _AND.search(text):
            self.foreign.setdefault(_AND_REASON, "AND")
        first, *rest = _BREAK.split(text)
        self.texts.append(first.rstrip() if rest else first)
        for number, part in enumerate(rest, start=1):
            self.texts.append(Break())
            self.texts.append(part.lstrip() if number == len(rest) else part.strip())

    def _emphasise(self, start: int, factor: float) -> None:
        self.emphases.append((start, len(self.texts), factor))

    def _keep_square(self, opened: _SquareBracket, closing: str, end: int) -> None:
        """Keep the brackets of prompt editing or alternation as text: neither is emphasis."""
        self.texts[opened.index] = "["
        self.texts.append(closing)
        self.foreign.setdefault(_EDITING_REASON, self.prompt[opened.offset : end])


def _read(prompt: str) -> _Reading:
    reading = _Reading(prompt)
    for token in _TOKEN.finditer(prompt):
        reading.read(token)
    reading.finish()
    return reading


def _finite(number: str) -> float | None:
    """The weight within the limits, or None for what is no finite number, such as `1.2.3`."""
    try:
        weight = float(number)
    except ValueError:
        return None
    return max(-LARGEST_WEIGHT, min(LARGEST_WEIGHT, weight)) if math.isfinite(weight) else None


def _joined(texts: list[str | Break], weights: list[float]) -> Iterator[Piece]:
    kept = [(text, weight) for text, weight in zip(texts, weights, strict=True) if text != ""]
    for weight, run in groupby(kept, key=lambda pair: None if pair[0] == Break() else pair[1]):
        if weight is None:
            yield from (Break() for _ in run)
        else:
            yield Span("".join(str(text) for text, _ in run), weight)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
