"""Chunks: the weighted token ids of one encoder input, cut from the spans of a prompt.

A model that reads several chunks takes a prompt of any length, split as AUTOMATIC1111's web UI does
(`chunk`). A model that reads one input either refuses a longer text (`whole`), takes the text at
its own length (`unframed`), or reads the beginning (`beginning`). The families run the encoders,
and emphasis.py applies the weights.

`chunk` tokenizes span by span, as the web UI does for CLIP, which reads tags. The other functions
tokenize the text as a whole: a weight then changes how strongly words act, and not their tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from runtime.errors import RequestError
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec
from runtime.plan.text.weighting import Break, Piece, Span, text_of

COMMA_REACH = 20
"""A full chunk ends at its last comma when that comma is among this many last tokens."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One encoder input: token ids with begin, end and filling, and a weight for each id."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    filling: int = 0
    """Number of ids at the end that only fill the encoder's input."""


@dataclass(frozen=True, slots=True)
class _Token:
    id: int
    weight: float
    joined: bool = False
    """True where the token must stay in the chunk of the one before it."""


def chunk(pieces: Sequence[Piece], tokenizer: PromptTokenizer) -> tuple[Chunk, ...]:
    """Split a prompt into chunks that have room for their frame; there is always at least one.

    A break ends its chunk however little is in it, as in the web UI: a prompt that starts with
    one starts with an empty chunk. A prompt that ends with one has no empty chunk at its end.
    """
    sections: list[list[_Token]] = [[]]
    for piece in pieces:
        if isinstance(piece, Break):
            sections.append([])
        else:
            sections[-1] += [
                _Token(token, piece.weight, joined=place > 0)
                for unit in tokenizer.units(piece.text)
                for place, token in enumerate(unit)
            ]
    if len(sections) > 1 and not sections[-1]:
        sections.pop()
    room = tokenizer.spec.room
    comma = _comma(tokenizer)
    return tuple(
        _framed(tokens, tokenizer.spec)
        for section in sections
        for tokens in _split(section, room, comma)
    )


def whole(spans: Sequence[Span], tokenizer: PromptTokenizer, pointer: str) -> Chunk:
    """The whole text as one encoder input, framed and filled.

    Raises RequestError for a text that is too long; `pointer` is the request's field with the text.
    """
    tokens = _tokens(spans, tokenizer)
    room = tokenizer.spec.room
    if len(tokens) > room:
        raise RequestError(
            pointer,
            f"{len(tokens)} tokens, but this model reads at most {room}; "
            f"shorten it by {len(tokens) - room}",
        )
    return _framed(tokens, tokenizer.spec)


def unframed(spans: Sequence[Span], tokenizer: PromptTokenizer) -> Chunk:
    """The whole text as one chunk of its own length, without begin, end or filling."""
    tokens = _tokens(spans, tokenizer)
    return Chunk(tuple(token.id for token in tokens), tuple(token.weight for token in tokens))


def beginning(text: str, tokenizer: PromptTokenizer) -> Chunk:
    """The beginning of a text, cut to the encoder's length as transformers truncates."""
    read = tokenizer.ids(text)[: tokenizer.spec.room]
    return _framed([_Token(token, 1.0) for token in read], tokenizer.spec)


def empty_chunk(spec: TokenizerSpec) -> Chunk:
    """The chunk of the empty prompt."""
    return _framed([], spec)


def align(
    by_encoder: Sequence[Sequence[Sequence[Chunk]]], specs: Sequence[TokenizerSpec]
) -> tuple[tuple[tuple[Chunk, ...], ...], ...]:
    """Append empty chunks until every prompt has the same number of chunks, for every encoder.

    `by_encoder[e][p]` holds the chunks of prompt p for encoder e, whose tokenizer is `specs[e]`.
    The result has the same form.
    """
    count = max((len(chunks) for prompts in by_encoder for chunks in prompts), default=0)
    return tuple(
        tuple((*chunks, *[empty_chunk(spec)] * (count - len(chunks))) for chunks in prompts)
        for prompts, spec in zip(by_encoder, specs, strict=True)
    )


def _comma(tokenizer: PromptTokenizer) -> int | None:
    ids = tokenizer.ids(",")
    return ids[0] if len(ids) == 1 else None


def _split(tokens: Sequence[_Token], room: int, comma: int | None) -> Iterator[Sequence[_Token]]:
    start = 0
    while len(tokens) - start > room:
        end = _end(tokens, start, room, comma)
        yield tokens[start:end]
        start = end
    yield tokens[start:]


def _end(tokens: Sequence[_Token], start: int, room: int, comma: int | None) -> int:
    """End index of a full chunk: at its last comma within COMMA_REACH, else where its room ends."""
    full = start + room
    if tokens[full].joined:
        # As in the web UI: a word that does not fit begins the next chunk, wherever commas are.
        return next(end for end in range(full, start, -1) if not tokens[end].joined)
    # As in the web UI: where a comma is the first that does not fit, what it ends stays whole.
    if tokens[full].id != comma:
        for end in range(full, max(start, full - COMMA_REACH), -1):
            if tokens[end - 1].id == comma:
                return end
    return full


def _tokens(spans: Sequence[Span], tokenizer: PromptTokenizer) -> list[_Token]:
    """The tokens of a text in one piece, each with the weight of its characters."""
    text = text_of(spans)
    weights = [span.weight for span in spans for _ in span.text]
    return [
        _Token(token, _mean_weight(text[place], weights[place]))
        for token, place in tokenizer.located(text)
    ]


def _mean_weight(characters: str, weights: Sequence[float]) -> float:
    """Weight of a token: the mean over its characters, since a weight may end inside a token."""
    # Byte-level tokens hold the space before their word, which often is the span before's.
    seen = [
        weight
        for character, weight in zip(characters, weights, strict=True)
        if not character.isspace()
    ]
    return fmean(seen or weights or [1.0])


def _framed(tokens: Sequence[_Token], spec: TokenizerSpec) -> Chunk:
    # One end token always, and pads only after it: text encoders pool at the first end token.
    begin = () if spec.begin is None else (spec.begin,)
    fill = spec.room - len(tokens)
    return Chunk(
        ids=(*begin, *(token.id for token in tokens), spec.end, *[spec.pad] * fill),
        weights=(*[1.0] * len(begin), *(token.weight for token in tokens), *[1.0] * (1 + fill)),
        filling=fill,
    )
