import json
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer

from runtime.errors import RequestError
from runtime.plan.text.chunks import (
    COMMA_REACH,
    Chunk,
    align,
    beginning,
    chunk,
    empty_chunk,
    unframed,
    whole,
)
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec
from runtime.plan.text.weighting import Break, Piece, Span, parse, plain

LENGTH = 77
ROOM = LENGTH - 2
CORPUS = [
    "a photo of a cat on a red background, masterpiece, best quality",
    "an oil painting of two dogs, highly detailed, 4k, don't blur!",
    "1girl, solo, looking at viewer, blue sky, strawberry",
]


@dataclass(frozen=True)
class Pair:
    """A tokenizer of transformers, and ours read from the file that the first one saved."""

    theirs: CLIPTokenizer
    ours: PromptTokenizer
    path: Path

    @property
    def word(self) -> int:
        return self.ours.ids("a")[0]

    @property
    def comma(self) -> int:
        return self.ours.ids(",")[0]


def train_clip() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary in CLIP's order (bytes, bytes that end a word, merges, specials), and merges."""
    words = Regex(r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    merges = [(left, right) for left, right in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges


# CLIP-L fills with its end token, OpenCLIP bigG with "!", which is a special token then.
@pytest.fixture(scope="module", params=["<|endoftext|>", "!"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    vocabulary, merges = train_clip()
    clip = CLIPTokenizer(
        vocab=vocabulary, merges=merges, pad_token=request.param, model_max_length=LENGTH
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    clip.backend_tokenizer.save(str(path))
    spec = TokenizerSpec(clip.bos_token_id, clip.eos_token_id, clip.pad_token_id, LENGTH)
    return Pair(clip, PromptTokenizer.load(path, spec), path)


def bodies(chunks: tuple[Chunk, ...], spec: TokenizerSpec) -> list[list[int]]:
    """The ids between begin and end of each chunk, whose frame is checked on the way."""
    found = []
    for one in chunks:
        assert len(one.ids) == len(one.weights) == spec.max_length
        assert one.ids[0] == spec.begin
        end = one.ids.index(spec.end)
        assert set(one.ids[end + 1 :]) <= {spec.pad}
        assert one.weights[0] == 1.0
        assert set(one.weights[end:]) == {1.0}
        found.append(list(one.ids[1:end]))
    return found


@given(prompt=st.text(max_size=60) | st.lists(st.sampled_from(CORPUS), max_size=2).map(" ".join))
@example("")
@example("wow! !! a cat")
@example("<|endoftext|> a cat")
@example("a " * ROOM)
@example("a , " * 37)
def test_a_prompt_that_fits_gives_the_ids_of_transformers(pair: Pair, prompt: str) -> None:
    assume(len(pair.ours.ids(prompt)) <= ROOM)
    (found,) = chunk(plain(prompt), pair.ours)
    expected = pair.theirs(
        prompt,
        padding="max_length",
        max_length=pair.theirs.model_max_length,
        truncation=True,
    )
    assert list(found.ids) == expected.input_ids
    assert found.weights == (1.0,) * LENGTH


def test_the_first_chunk_of_a_long_prompt_without_commas_is_what_transformers_truncates_to(
    pair: Pair,
) -> None:
    prompt = "a cat on a background " * 30
    chunks = chunk(plain(prompt), pair.ours)
    expected = pair.theirs(prompt, padding="max_length", max_length=LENGTH, truncation=True)
    assert list(chunks[0].ids) == expected.input_ids
    assert [*chain(*bodies(chunks, pair.ours.spec))] == pair.ours.ids(prompt)


@pytest.mark.parametrize(
    ("before", "after", "lengths"),
    [
        (ROOM - 1, 1, [ROOM, 1]),
        (ROOM - COMMA_REACH, COMMA_REACH, [ROOM - COMMA_REACH + 1, COMMA_REACH]),
        (ROOM - COMMA_REACH - 1, COMMA_REACH + 1, [ROOM, 1]),
        (ROOM, 5, [ROOM, 6]),
    ],
    ids=["the last that fits", "the furthest in reach", "out of reach", "the first left over"],
)
def test_a_full_chunk_ends_at_a_comma_in_reach(
    pair: Pair, before: int, after: int, lengths: list[int]
) -> None:
    prompt = "a " * before + ", " + "a " * after
    found = bodies(chunk(plain(prompt), pair.ours), pair.ours.spec)
    assert [len(body) for body in found] == lengths
    assert [*chain(*found)] == pair.ours.ids(prompt)


def test_a_prompt_that_just_fits_is_not_split_at_its_comma(pair: Pair) -> None:
    assert len(chunk(plain("a " * 70 + ", " + "a " * 4), pair.ours)) == 1


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [""]),
        ("BREAK", [""]),
        ("a BREAK a a", ["a", "a a"]),
        ("a BREAK", ["a"]),
        ("BREAK a", ["", "a"]),
        ("a BREAK BREAK a", ["a", "", "a"]),
        ("a " * ROOM + "BREAK a", ["a " * ROOM, "a"]),
        ("(a BREAK a:1.5)", ["a", "a"]),
    ],
)
def test_break_starts_a_chunk(pair: Pair, prompt: str, expected: list[str]) -> None:
    found = bodies(chunk(parse(prompt), pair.ours), pair.ours.spec)
    assert found == [pair.ours.ids(text) for text in expected]


def test_weights_stay_with_their_tokens_across_chunks(pair: Pair) -> None:
    pieces: list[Piece] = [
        Span("a " * 60 + ",", 1.0),
        Span(" cat" * 20, 1.5),
        Break(),
        Span("a", 0.5),
    ]
    chunks = chunk(pieces, pair.ours)
    weight_of_id = {pair.word: {1.0, 0.5}, pair.comma: {1.0}, pair.ours.ids("cat")[0]: {1.5}}
    assert [chunk.weights.count(1.5) for chunk in chunks] == [0, 20, 0]
    assert chunks[2].weights == (1.0, 0.5, *[1.0] * (LENGTH - 2))
    for one in chunks[:2]:
        end = one.ids.index(pair.ours.spec.end)
        for token, weight in zip(one.ids[1:end], one.weights[1:end], strict=True):
            assert weight in weight_of_id[token]


def published_rule(tokens: list[int | None], comma: int) -> list[list[int]]:
    """The web UI's rule, token by token: a full chunk gives back what follows its last comma."""
    chunks: list[list[int]] = []
    current: list[int] = []
    last_comma: int | None = None
    for token in tokens:
        if token is None:
            chunks.append(current)
            current, last_comma = [], None
            continue
        if token == comma:
            last_comma = len(current)
        elif len(current) == ROOM and last_comma is not None and ROOM - last_comma <= 20:
            chunks.append(current[: last_comma + 1])
            current, last_comma = current[last_comma + 1 :], None
        if len(current) == ROOM:
            chunks.append(current)
            current, last_comma = [], None
        current.append(token)
    return [*chunks, current] if current or not chunks else chunks


@given(
    phrases=st.lists(
        st.tuples(st.integers(0, 90), st.sampled_from([", ", ", , ", "BREAK"])), max_size=12
    )
)
def test_chunks_follow_the_published_rule(pair: Pair, phrases: list[tuple[int, str]]) -> None:
    pieces: list[Piece] = []
    tokens: list[int | None] = []
    for words, ending in phrases:
        text = "a " * words + ending.replace("BREAK", "")
        pieces.append(Span(text, 1.0))
        tokens += pair.ours.ids(text)
        if ending == "BREAK":
            pieces.append(Break())
            tokens.append(None)
    found = bodies(chunk(pieces, pair.ours), pair.ours.spec)
    assert found == published_rule(tokens, pair.comma)


@pytest.mark.parametrize("max_length", [3, 4, 12, 23])
@given(prompt=st.lists(st.sampled_from(["a", ",", "cat"]), max_size=80).map(" ".join))
def test_any_length_of_chunk_holds_every_token(pair: Pair, max_length: int, prompt: str) -> None:
    spec = replace(pair.ours.spec, max_length=max_length)
    tokenizer = PromptTokenizer.load(pair.path, spec)
    found = bodies(chunk(plain(prompt), tokenizer), spec)
    assert [*chain(*found)] == pair.ours.ids(prompt)
    assert all(found) or not prompt


def test_align_fills_every_prompt_of_every_encoder_to_one_count(pair: Pair) -> None:
    other = PromptTokenizer.load(pair.path, replace(pair.ours.spec, pad=1, max_length=42))
    encoders = (pair.ours, other)
    prompts = [parse("a " * 100), parse(""), parse("a BREAK a")]
    by_encoder = [[chunk(prompt, encoder) for prompt in prompts] for encoder in encoders]
    assert [[len(chunks) for chunks in row] for row in by_encoder] == [[2, 1, 2], [3, 1, 2]]

    aligned = align(by_encoder, [encoder.spec for encoder in encoders])
    for row, aligned_row, encoder in zip(by_encoder, aligned, encoders, strict=True):
        empty = empty_chunk(encoder.spec)
        assert (empty,) == chunk(parse(""), encoder)
        for chunks, aligned_chunks in zip(row, aligned_row, strict=True):
            assert aligned_chunks == (*chunks, *[empty] * (3 - len(chunks)))


def test_align_leaves_equal_counts_alone(pair: Pair) -> None:
    chunks = chunk(parse("a BREAK a"), pair.ours)
    assert align([[chunks, chunks]], [pair.ours.spec]) == ((chunks, chunks),)
    assert align([[]], [pair.ours.spec]) == ((),)


@given(prompt=st.lists(st.sampled_from(["a", ",", "cat"]), max_size=120).map(" ".join))
def test_the_beginning_of_a_text_is_what_transformers_truncates_to(pair: Pair, prompt: str) -> None:
    theirs = pair.theirs(prompt, padding="max_length", max_length=LENGTH, truncation=True)
    read = beginning(prompt, pair.ours)
    assert list(read.ids) == theirs.input_ids
    assert LENGTH - read.filling == sum(theirs.attention_mask)


@pytest.mark.parametrize("words", [0, 1, ROOM])
def test_a_text_that_fits_is_read_whole(pair: Pair, words: int) -> None:
    text = "a " * words
    read = whole(plain(text), pair.ours, "/prompt")
    assert (read,) == chunk(plain(text), pair.ours)
    assert read.filling == ROOM - words


def test_a_text_that_does_not_fit_is_refused_where_it_stands(pair: Pair) -> None:
    with pytest.raises(RequestError) as refusal:
        whole(plain("a " * (ROOM + 3)), pair.ours, "/negative_prompt")
    (fault,) = refusal.value.faults
    assert fault.pointer == "/negative_prompt"
    assert (
        fault.detail == f"{ROOM + 3} tokens, but this model reads at most {ROOM}; shorten it by 3"
    )


@given(
    words=st.lists(
        st.tuples(st.sampled_from(["a", "cat", "on a", "blue,"]), st.sampled_from([0.5, 1.0, 1.3])),
        max_size=12,
    )
)
def test_a_text_in_one_piece_has_each_words_weight_at_its_tokens(
    pair: Pair, words: list[tuple[str, float]]
) -> None:
    spans = [Span(f"{text} ", weight) for text, weight in words]
    text = "".join(span.text for span in spans)
    ids = tuple(pair.ours.ids(text))
    weights = tuple(weight for word, weight in words for _ in pair.ours.ids(word))
    assert unframed(spans, pair.ours) == Chunk(ids, weights)
    read = whole(spans, pair.ours, "/prompt")
    (expected,) = chunk(plain(text), pair.ours)
    assert read.ids == expected.ids
    assert read.weights == (1.0, *weights, *[1.0] * (1 + read.filling))


def byte_level(path: Path, *, trimmed: bool = False) -> PromptTokenizer:
    """As a language model's: a word's token begins with the space before it."""
    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "un", "\u0120un"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, [("u", "n"), ("\u0120", "un")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trimmed)
    tokenizer.save(str(path))
    return PromptTokenizer.load(path, TokenizerSpec(None, 0, 0, LENGTH))


@pytest.mark.parametrize(
    ("spans", "weights"),
    [
        ((), ()),
        ((("un ", 1.0), ("un", 1.5)), (1.0, 1.5)),
        ((("un ", 1.5), ("un", 1.0)), (1.5, 1.0)),
        ((("u", 1.4), ("n", 1.0)), (1.2,)),
        ((("\u00e9", 1.4), ("x", 1.0)), (1.4, 1.4, 1.0)),
        ((("x", 1.0), (" ", 1.5), (" x", 1.0)), (1.0, 1.5, 1.0, 1.0)),
    ],
    ids=["nothing", "before", "after", "inside a token", "two tokens of a letter", "a lone space"],
)
def test_a_tokens_weight_is_the_mean_of_what_is_seen_of_it(
    tmp_path: Path, spans: tuple[tuple[str, float], ...], weights: tuple[float, ...]
) -> None:
    tokenizer = byte_level(tmp_path / "tokenizer.json")
    assert unframed([Span(*each) for each in spans], tokenizer).weights == weights


def test_a_token_that_is_made_of_no_character_has_no_weight(tmp_path: Path) -> None:
    """As some tokenizers say of a lone space."""
    tokenizer = byte_level(tmp_path / "tokenizer.json", trimmed=True)
    assert unframed([Span("x  x", 1.5)], tokenizer).weights == (1.5, 1.0, 1.0, 1.5)
