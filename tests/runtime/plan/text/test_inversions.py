"""Words of textual inversions: found in prompts, given tokens, and kept in one chunk."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.package.file_record import FileRecord
from runtime.package.inversion import VECTORS_NAME, Inversion, Word, inversions_of
from runtime.package.manifest import read_package
from runtime.plan.text.chunks import chunk
from runtime.plan.text.inversions import unknown_words, with_words
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec
from runtime.plan.text.weighting import Piece, parse, plain
from runtime.plan.text.words import split
from tests.places import ENGINES

ROLES = ("text_encoder", "text_encoder_2")
ENCODERS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))
INK, OIL, INKWELL = (1,), (2, 3), (4,)
WORDS = {"ink": INK, "oil paint": OIL, "inkwell": INKWELL, "bad-hands.5": (6,)}


def inversion(name: str, vectors: int, digest: str = "") -> Inversion:
    word = Word(name, vectors, dict.fromkeys(ROLES, 8))
    (made,) = inversions_of((word,), digest, Path("nowhere"), {VECTORS_NAME: FileRecord("", 0)})
    return made


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PromptTokenizer]:
    """The demo model's, whose end token is its highest."""
    package = read_package(ENGINES, "demo")
    return {
        key: PromptTokenizer.load(
            package.file(record.file),
            TokenizerSpec(record.begin, record.end, record.pad, record.max_length),
        )
        for key, record in package.manifest.tokenizers.items()
    }


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a cat", ["a cat"]),
        ("ink", ["", INK, ""]),
        ("in INK, inks", ["in ", INK, ", inks"]),
        ("an inkwell, Oil Paint.", ["an ", INKWELL, ", ", OIL, "."]),
        ("embedding:ink embedding:inkwell", ["", INK, " ", INKWELL, ""]),
        ("Embedding:ink.safetensors,embedding:ink.pt", ["", INK, ",", INK, ""]),
        ("drink embedding:blink", ["drink embedding:blink"]),
        ("ink.safetensors", ["", INK, ".safetensors"]),
        ("embedding:bad-hands.5, bad-hands.5", ["", (6,), ", ", (6,), ""]),
    ],
)
def test_words_in_a_text(text: str, pieces: Sequence[str | tuple[int, ...]]) -> None:
    assert list(split(text, WORDS)) == pieces


def test_a_text_without_words_is_one_piece() -> None:
    assert list(split("ink (oil paint)", {})) == ["ink (oil paint)"]


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a cat, ink", []),
        ("embedding:ink, (EMBEDDING:Ink:1.2)", []),
        ("embedding:oil paint", []),
        ("(embedding:blur:1.2), embedding:blur, embedding:fog.pt", ["blur", "fog"]),
        ("[embedding:blur]", ["blur"]),
        ("an embedding: of a cat", []),
        ("word_embedding:x", []),
    ],
)
def test_unknown_words(prompt: str, unknown: list[str]) -> None:
    warnings = unknown_words(prompt, ["Ink", "oil paint"])
    assert [warning.split("'")[1] for warning in warnings] == [f"embedding:{w}" for w in unknown]
    assert all("engine-build embedding add" in warning for warning in warnings)


def prompts(*texts: str) -> list[tuple[Piece, ...]]:
    return [parse(text) for text in texts]


def test_vectors_take_tokens_that_no_prompt_has(tokenizers: dict[str, PromptTokenizer]) -> None:
    texts = ("a red heart, ink, [embedding:oil]", "(INK:1.3) on a blue background")
    known, rows = with_words(
        prompts(*texts), tokenizers, ENCODERS, [inversion("ink", 2), inversion("oil", 3)]
    )
    for role, key in ENCODERS:
        own = [row for row in rows if row.role == role]
        spec, plain_reader = tokenizers[key].spec, tokenizers[key]
        assert [(row.inversion.name, row.index) for row in own] == [
            *(("ink", 0), ("ink", 1)),
            *(("oil", 0), ("oil", 1), ("oil", 2)),
        ]
        tokens = [row.token for row in own]
        others = {token for text in texts for token in plain_reader.ids(text)}
        assert len(set(tokens)) == 5
        assert not set(tokens) & (others | {spec.begin, spec.end, spec.pad})
        assert max(tokens) < spec.end
        read = list(known[key].units("a red ink heart"))
        assert read == [
            *((token,) for token in plain_reader.ids("a red ")),
            tuple(tokens[:2]),
            *((token,) for token in plain_reader.ids(" heart")),
        ]


def test_only_words_that_are_used_take_tokens(tokenizers: dict[str, PromptTokenizer]) -> None:
    shelf = [inversion("ink", 2), inversion("oil", 3)]
    known, rows = with_words(prompts("a red heart", ""), tokenizers, ENCODERS, shelf)
    assert (known, rows) == (tokenizers, ())
    _, rows = with_words(prompts("some oil", ""), tokenizers, ENCODERS, shelf)
    assert {row.inversion.name for row in rows} == {"oil"}


def test_of_one_name_the_first_is_meant(tokenizers: dict[str, PromptTokenizer]) -> None:
    shelf = [inversion("Ink", 2, "the LoRA's"), inversion("ink", 3, "the model's")]
    _, rows = with_words(prompts("ink"), tokenizers, ENCODERS, shelf)
    assert {row.inversion.digest for row in rows} == {"the LoRA's"}


def test_more_vectors_than_tokens(tokenizers: dict[str, PromptTokenizer]) -> None:
    most = tokenizers["tokenizer"].spec.end
    with pytest.raises(RequestError, match="more vectors than"):
        with_words(prompts("ink"), tokenizers, ENCODERS, [inversion("ink", most)])


ITEMS = st.lists(st.sampled_from(["heart", ",", "red", "ink", "oil", "BREAK"]), max_size=60)


@given(items=ITEMS, counts=st.tuples(st.integers(1, 30), st.integers(1, 9)))
def test_a_word_stays_in_one_chunk(
    tokenizers: dict[str, PromptTokenizer], items: list[str], counts: tuple[int, int]
) -> None:
    """Nothing is lost, and no chunk, of 30 tokens here, begins or ends within a word."""
    shelf = [inversion("ink", counts[0]), inversion("oil", counts[1])]
    pieces = parse(" ".join(items))
    known, _ = with_words([pieces], tokenizers, ENCODERS, shelf)
    reader = known["tokenizer"]
    spec = reader.spec
    expected = [
        unit for piece in pieces if hasattr(piece, "text") for unit in reader.units(piece.text)
    ]
    waiting = iter(expected)
    for each in chunk(pieces, reader):
        held = each.ids[1 : len(each.ids) - 1 - each.filling]
        assert len(each.ids) == spec.max_length
        while held:
            unit = next(waiting)
            assert held[: len(unit)] == unit
            held = held[len(unit) :]
    assert not list(waiting)


def test_a_plain_prompt_knows_words_too(tokenizers: dict[str, PromptTokenizer]) -> None:
    known, rows = with_words([plain("(ink)")], tokenizers, ENCODERS, [inversion("ink", 1)])
    (only,) = chunk(plain("(ink)"), known["tokenizer"])
    assert rows[0].token in only.ids
