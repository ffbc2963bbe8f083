import math
import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.plan.text.weighting import (
    LARGEST_WEIGHT,
    Break,
    Piece,
    Span,
    in_one_piece,
    parse,
    plain,
    unsupported,
)

SYNTAX_HEAVY = st.text(alphabet="()[]\\:.|<>+-0159aé, \n") | st.lists(
    st.sampled_from(["(", ")", "[", "]", "\\", ":1.3)", ":0.5]", "BREAK", "AND", " ", "a", "<b:1>"])
).map("".join)
ANY_PROMPT = st.text() | SYNTAX_HEAVY


def spans(*pairs: tuple[str, float]) -> tuple[tuple[str, object], ...]:
    return tuple((text, pytest.approx(weight, rel=1e-12)) for text, weight in pairs)


def parsed(prompt: str) -> tuple[tuple[str, object], ...]:
    return tuple((piece.text, piece.weight) for piece in parse(prompt) if isinstance(piece, Span))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("normal text", spans(("normal text", 1.0))),
        ("an (important) word", spans(("an ", 1.0), ("important", 1.1), (" word", 1.0))),
        ("an [unimportant] word", spans(("an ", 1.0), ("unimportant", 1 / 1.1), (" word", 1.0))),
        ("((a))b[[c]]", spans(("a", 1.21), ("b", 1.0), ("c", 1 / 1.21))),
        ("(a:1.3) (b: 0.5 )", spans(("a", 1.3), (" ", 1.0), ("b", 0.5))),
        ("(a:-1)(b:+2)(c:.5)(d:0)", spans(("a", -1.0), ("b", 2.0), ("c", 0.5), ("d", 0.0))),
        ("(unnecessary)(parens)", spans(("unnecessaryparens", 1.1))),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            spans(
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ),
        ),
        ("", ()),
        ("()[]((:1.5))", ()),
    ],
)
def test_published_examples(prompt: str, expected: tuple[tuple[str, object], ...]) -> None:
    assert parsed(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("(unbalanced", spans(("unbalanced", 1.1))),
        ("a [b (c", spans(("a ", 1.0), ("b ", 1 / 1.1), ("c", 1.0))),
        ("a) b] c", spans(("a) b] c", 1.0))),
        ("a:1.3) b", spans(("a:1.3) b", 1.0))),
        ("a:0.5] b", spans(("a:0.5] b", 1.0))),
        ("(a [b) c]", spans(("a ", 1.1), ("b", 1.0), (" c", 1 / 1.1))),
    ],
)
def test_unbalanced_brackets_reach_to_the_end_or_are_text(
    prompt: str, expected: tuple[tuple[str, object], ...]
) -> None:
    assert parsed(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (r"\(literal\]", "(literal]"),
        (r"miku \(vocaloid\)", "miku (vocaloid)"),
        (r"a\\b", r"a\b"),
        (r"\m/ :\ ", r"\m/ :\ "),
        ("ends with \\", "ends with \\"),
        (r"\[a:b:0.5\]", "[a:b:0.5]"),
    ],
)
def test_escaped_characters_are_text_and_other_backslashes_stay(prompt: str, text: str) -> None:
    assert parse(prompt) == (Span(text, 1.0),)
    assert unsupported(prompt) == ()


def test_escaped_backslash_does_not_escape_the_bracket_after_it() -> None:
    assert parsed(r"\\(a)") == spans(("\\", 1.0), ("a", 1.1))


def test_square_undoes_round_exactly() -> None:
    # Exactly 1.0, so that such a prompt is served without any arithmetic on its embeddings.
    assert parse("[(a)] ([b])") == (Span("a b", 1.0),)


@pytest.mark.parametrize(
    "number", ["1e999", "nan", "inf", "-inf", "1.2.3", ".", "9" * 400, "--1", ""]
)
def test_a_number_that_is_no_finite_weight_is_text(number: str) -> None:
    assert parsed(f"(a:{number}) b") == spans((f"a:{number}", 1.1), (" b", 1.0))


@pytest.mark.parametrize(
    ("prompt", "weight"),
    [
        ("(" * 10_000 + "a", LARGEST_WEIGHT),
        ("((a:-99999):99999)", -LARGEST_WEIGHT),
        (f"(a:{'9' * 300})", LARGEST_WEIGHT),
        ("(" * 5_000 + "(a:0)" + ")" * 5_000, 0.0),
    ],
)
def test_products_of_weights_stay_within_the_limit(prompt: str, weight: float) -> None:
    assert parse(prompt) == (Span("a", weight),)
    assert any("limit" in warning for warning in unsupported(prompt)) == (weight != 0)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a BREAK b", (Span("a", 1.0), Break(), Span("b", 1.0))),
        ("BREAK", (Break(),)),
        ("a BREAK\nBREAK b", (Span("a", 1.0), Break(), Break(), Span("b", 1.0))),
        ("(a BREAK b)", (Span("a", 1.1), Break(), Span("b", 1.1))),
        ("(a)BREAK(b)", (Span("a", 1.1), Break(), Span("b", 1.1))),
        ("breakfast, BREAKFAST, break", (Span("breakfast, BREAKFAST, break", 1.0),)),
    ],
)
def test_break(prompt: str, expected: tuple[Piece, ...]) -> None:
    assert parse(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "quoted"),
    [
        ("a <lora:detail (v2):0.8> b", "'<lora:detail (v2):0.8>'"),
        ("a [cat:dog:0.5] b", "'[cat:dog:0.5]'"),
        ("a [cat:0.5] b", "'[cat:0.5]'"),
        ("a [cat::10] b", "'[cat::10]'"),
        ("a [cat|dog] b", "'[cat|dog]'"),
        ("a cat AND a dog", "'AND'"),
    ],
)
def test_other_syntax_of_the_web_ui_is_text_with_a_warning(prompt: str, quoted: str) -> None:
    assert parse(prompt) == (Span(prompt, 1.0),)
    (warning,) = unsupported(prompt)
    assert warning.startswith(f"{quoted} is taken as text: ")


def test_emphasis_inside_prompt_editing_still_counts() -> None:
    assert parsed("[(cat):[dog]:0.5]") == spans(
        ("[", 1.0), ("cat", 1.1), (":", 1.0), ("dog", 1 / 1.1), (":0.5]", 1.0)
    )


def test_each_kind_is_warned_of_once_with_its_first_piece_and_not_at_length() -> None:
    prompt = "<lora:a:1> <lora:b:1> AND x AND [c:d:1] [e|f] " + f"<lora:{'g' * 100}:1>"
    warnings = unsupported(prompt)
    assert len(warnings) == 3
    assert [warning.split(" is taken")[0] for warning in warnings] == [
        "'<lora:a:1>'",
        "'AND'",
        "'[c:d:1]'",
    ]
    (long,) = unsupported(f"<lora:{'g' * 100}:1>")
    assert long.count("ggg...") == 2
    assert len(long) < 170


def test_the_tag_of_a_lora_is_told_in_the_form_that_a_request_has() -> None:
    (warning,) = unsupported("a heart <lora:ink:0.5:0.7>")
    assert warning.endswith('name LoRAs in the request\'s "loras": {"id": "ink", "weight": 0.5}.')
    assert unsupported("<LORA:ink>")[0].endswith('{"id": "ink", "weight": 0.8}.')
    assert unsupported("<hypernet:ink:1>")[0].endswith('name LoRAs in the request\'s "loras".')


def test_of_an_unweighted_prompt_tags_alone_are_told() -> None:
    prompt = "<lora:ink:1> [cat:dog:0.5] a AND b"
    assert unsupported(prompt, weighted=False) == unsupported("<lora:ink:1>")
    assert unsupported("[cat:dog:0.5]", weighted=False) == ()


@pytest.mark.parametrize(
    "prompt", ["a sandy BAND, and (a dog:1.2)", "a < b: c > d", "a | b", "[a]"]
)
def test_no_warning_without_cause(prompt: str) -> None:
    assert unsupported(prompt) == ()


@given(prompt=st.text())
def test_plain_takes_the_prompt_as_it_stands(prompt: str) -> None:
    assert plain(prompt) == (Span(prompt, 1.0),)


def text_of(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, Span))


@pytest.mark.fuzz
@given(prompt=ANY_PROMPT)
@example("(a:9" * 2_000)
@example("\\")
@example("(" * 2_000 + ")" * 3_000)
def test_any_string_parses_to_finite_weights_with_no_text_lost(prompt: str) -> None:
    pieces = parse(prompt)
    weights = [piece.weight for piece in pieces if isinstance(piece, Span)]
    assert all(math.isfinite(np.float32(weight)) for weight in weights)
    assert all(piece.text for piece in pieces if isinstance(piece, Span))

    # Brackets, backslashes, numbers after a colon, BREAK and the blanks around both may go.
    syntax = re.compile(r"[()\[\]\\:+.\-\d\sBREAK]")
    assert syntax.sub("", text_of(pieces)) == syntax.sub("", prompt)


@pytest.mark.fuzz
@given(prompt=ANY_PROMPT)
def test_warnings_are_whole_sentences_for_any_string(prompt: str) -> None:
    warnings = unsupported(prompt)
    assert len(set(warnings)) == len(warnings) <= 4
    assert all(warning.endswith(".") for warning in warnings)


@given(text=(st.text() | SYNTAX_HEAVY).filter(lambda text: "BREAK" not in text and "<" not in text))
def test_a_text_with_its_brackets_escaped_comes_back_whole(text: str) -> None:
    pieces = parse(re.sub(r"([\\()\[\]])", r"\\\1", text))
    assert pieces == ((Span(text, 1.0),) if text else ())


@dataclass(frozen=True)
class Group:
    """A bracket pair of a generated prompt: what stands before and after, and what it does."""

    opening: str
    closing: str
    factor: float
    children: tuple["str | Group", ...]


LEAVES = st.text("xyz ,()[]\\", min_size=1, max_size=4)


def groups(
    children: st.SearchStrategy[tuple[str | Group, ...]],
) -> st.SearchStrategy[tuple[str | Group, ...]]:
    numbers = st.decimals(min_value=-3, max_value=3, places=2)
    brackets = (
        st.just(("(", ")", 1.1))
        | st.just(("[", "]", 1 / 1.1))
        | numbers.map(lambda number: ("(", f":{number})", float(number)))
    )
    group = st.builds(
        lambda bracket, inner: Group(bracket[0], bracket[1], bracket[2], inner), brackets, children
    )
    return st.lists(LEAVES | group, max_size=4).map(tuple)


def render(children: tuple[str | Group, ...]) -> str:
    return "".join(
        re.sub(r"([\\()\[\]])", r"\\\1", child)
        if isinstance(child, str)
        else f"{child.opening}{render(child.children)}{child.closing}"
        for child in children
    )


def expected_weights(children: tuple[str | Group, ...], factor: float) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for child in children:
        if isinstance(child, str):
            found += [(character, factor) for character in child]
        else:
            found += expected_weights(child.children, factor * child.factor)
    return found


@given(tree=st.recursive(st.tuples(LEAVES), groups, max_leaves=12))
def test_every_character_of_a_balanced_prompt_has_the_product_of_its_brackets(
    tree: tuple[str | Group, ...],
) -> None:
    pieces = parse(render(tree))
    found = [(c, piece.weight) for piece in pieces if isinstance(piece, Span) for c in piece.text]
    expected = expected_weights(tree, 1.0)
    assert [c for c, _ in found] == [c for c, _ in expected]
    np.testing.assert_allclose([w for _, w in found], [w for _, w in expected], rtol=1e-9)
    assert all(
        left.weight != right.weight
        for left, right in pairwise(pieces)
        if isinstance(left, Span) and isinstance(right, Span)
    )


@given(prompt=ANY_PROMPT)
@example("a BREAK (b:1.3)")
def test_in_one_piece_a_break_is_a_space(prompt: str) -> None:
    assert in_one_piece(prompt, weighted=False) == plain(prompt)
    for found, piece in zip(in_one_piece(prompt, weighted=True), parse(prompt), strict=True):
        assert found == (Span(" ", 1.0) if isinstance(piece, Break) else piece)
