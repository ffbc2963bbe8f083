"""The web UI makes of our text what Calotype made of the prompt."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.draw.web_ui_prompt import web_ui_prompt
from runtime.plan.text.weighting import Break, parse, plain
from tests.runtime.draw.recipe_readers import (
    BREAK,
    Weighted,
    civitai_parameters,
    is_composed,
    web_ui_attention,
    web_ui_networks,
    web_ui_parameters,
)

SETTINGS = "Steps: 1, Seed: 2, Size: 8x8"

_PIECES = st.sampled_from(
    [
        *("(", ")", "[", "]", "\\", ":", "|", "1.2", ".5", ".", "1.2.3", "-1", "9" * 8, "9" * 400),
        *("AND", "BREAK", "<", ">", "<lora:x:1>", " ", ",", "\n", "\r\n", "\0", "cat", "a b", "é"),
        *("猫", "😀", "Negative prompt:", "Steps: ", "Template: ", "Negative Template: ", '"', "x"),
        *("\u200f", "#"),
    ]
)
PROMPTS = st.one_of(
    st.lists(_PIECES, max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)


@pytest.mark.fuzz
@given(PROMPTS, st.booleans())
@example("(<9(<lora:x:1>", True)
@example("[:1.2\0]", True)
def test_the_web_ui_reads_the_prompt_that_was_drawn(prompt: str, weighted: bool) -> None:
    text = f"{web_ui_prompt(prompt, weighted=weighted)}\nNegative prompt: \n{SETTINGS}"
    read = web_ui_parameters(text)
    assert read["Negative prompt"] == ""
    without, networks = web_ui_networks(read["Prompt"])
    assert (without, networks) == (read["Prompt"], [])
    assert not is_composed(read["Prompt"])
    assert _same(web_ui_attention(read["Prompt"]), _drawn(prompt, weighted))


@pytest.mark.fuzz
@given(PROMPTS, PROMPTS, st.booleans())
def test_civitai_cuts_the_text_where_the_web_ui_does(
    prompt: str, negative: str, weighted: bool
) -> None:
    positive, other = (web_ui_prompt(each, weighted=weighted) for each in (prompt, negative))
    text = f"{positive}\nNegative prompt: {other}\n{SETTINGS}"
    read = civitai_parameters(text)
    assert _squeezed(str(read["prompt"])) == _squeezed(positive)
    assert _squeezed(str(read["negativePrompt"])) == _squeezed(other)
    assert (read["Seed"], read["Size"]) == ("2", "8x8")


@pytest.mark.parametrize(
    "prompt", ["a cat", "(a (cat:1.2)), [dog], \\(sitting\\)", "one BREAK two", "größe\n猫 😀, (("]
)
def test_a_prompt_that_both_read_alike_stands_as_it_was_written(prompt: str) -> None:
    assert web_ui_prompt(prompt, weighted=True) == prompt


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("smile :) (not a weight:1.3)", r"smile :\) \(not a weight:1.3\)"),
        (r"back\slash [x]", r"back\\slash \[x\]"),
        ("this AND that BREAK <lora:x:1>", r"this A\ND that B\REAK <\lora:x:1>"),
    ],
)
def test_an_unweighted_prompt_has_its_brackets_escaped(prompt: str, text: str) -> None:
    assert web_ui_prompt(prompt, weighted=False) == text


def _drawn(prompt: str, weighted: bool) -> Weighted:
    pieces = parse(prompt) if weighted else plain(prompt)
    return [BREAK if isinstance(each, Break) else (each.text, each.weight) for each in pieces]


def _same(found: Weighted, drawn: Weighted) -> bool:
    """The same words with the same weights; white space counts as little as in CLIP's tokens, and
    so does NUL, for which the text has a space."""
    first, second = _letters(found), _letters(drawn)
    return [letter for letter, _ in first] == [letter for letter, _ in second] and all(
        abs(one - other) <= 1e-5 * max(1, abs(other))
        for (_, one), (_, other) in zip(first, second, strict=True)
    )


def _letters(pieces: Weighted) -> Weighted:
    return [
        pair
        for piece in pieces
        for pair in ([piece] if piece == BREAK else [(letter, piece[1]) for letter in piece[0]])
        if not (pair[0].isspace() or pair[0] == "\0")
    ]


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
