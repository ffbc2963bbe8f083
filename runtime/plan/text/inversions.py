"""Textual inversions in prompts: a word's name stands for the tokens of its vectors.

A prompt uses a word by its bare name, as in AUTOMATIC1111's web UI, or as `embedding:name`, as in
ComfyUI, which also takes the name of its file; case does not matter. Each vector takes the place of
a token that the picture's prompts do not have: text encoders go on reading token ids, and hold the
vector in that token's row while they read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from runtime.errors import RequestError
from runtime.package.inversion import Inversion, Row, Rows
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec
from runtime.plan.text.weighting import Piece, Span
from runtime.plan.text.words import EXTENSION, split

_NAMED = re.compile(rf"\bembedding:(?P<name>[^\s,:()\[\]]+?){EXTENSION}(?=[\s,:()\[\]]|$)", re.I)

_UNCHOSEN = (-1,)
"""The tokens of a word before they are chosen; no token has this id."""


def unknown_words(prompt: str, known: Iterable[str]) -> tuple[str, ...]:
    """A sentence for each `embedding:` in a prompt that names no word of `known`."""
    rest = split(prompt, dict.fromkeys((name.casefold() for name in known), _UNCHOSEN))
    found = dict.fromkeys(
        match["name"] for text in rest if isinstance(text, str) for match in _NAMED.finditer(text)
    )
    return tuple(
        f"'embedding:{name}' is taken as text: this model has no embedding of that name; add it "
        "with engine-build embedding add."
        for name in found
    )


def with_words(
    prompts: Sequence[Sequence[Piece]],
    tokenizers: Mapping[str, PromptTokenizer],
    encoders: Sequence[tuple[str, str]],
    inversions: Sequence[Inversion],
) -> tuple[dict[str, PromptTokenizer], Rows]:
    """Tokenizers that know the words which these prompts use, and the rows that hold the vectors.

    `encoders` are pairs of a text encoder's role and its tokenizer. Of two inversions of one name
    the first is meant. Raises RequestError for more vectors than the prompts leave tokens for.
    """
    texts = [piece.text for pieces in prompts for piece in pieces if isinstance(piece, Span)]
    used = _used(texts, inversions)
    known, rows = dict(tokenizers), []
    for role, key in encoders if used else ():
        plain = tokenizers[key]
        reader = plain.knowing(dict.fromkeys(used, _UNCHOSEN))
        taken = {token for text in texts for unit in reader.units(text) for token in unit}
        free = _free(plain.spec, taken)
        words = {name: tuple(islice(free, each.vectors)) for name, each in used.items()}
        for name, tokens in words.items():
            if len(tokens) < used[name].vectors:
                raise RequestError("/prompt", "its embeddings have more vectors than tokens exist")
            rows += [Row(role, token, used[name], place) for place, token in enumerate(tokens)]
        known[key] = plain.knowing(words)
    return known, tuple(rows)


def _used(texts: Sequence[str], inversions: Sequence[Inversion]) -> dict[str, Inversion]:
    """The inversions that texts name, by folded name."""
    first: dict[str, Inversion] = {}
    for each in inversions:
        first.setdefault(each.name.casefold(), each)
    numbers = {name: (number,) for number, name in enumerate(first)}
    found = {unit for text in texts for unit in split(text, numbers) if isinstance(unit, tuple)}
    return {name: each for name, each in first.items() if numbers[name] in found}


def _free(spec: TokenizerSpec, taken: set[int]) -> Iterator[int]:
    """The tokens that no prompt has, rare ones first. All are below the end token, since text
    encoders of old configurations pool at the highest id.
    """
    frame = {spec.begin, spec.end, spec.pad}
    return (token for token in reversed(range(spec.end)) if token not in taken | frame)
