"""Prompts beyond the few things that a model can draw."""

import pytest

from runtime.plan.model import open_model
from runtime.plan.text.vocabulary import beyond
from tests.places import ENGINES

FEW = ("cat", "palm tree", "bus")


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "two cats on the left", "(Palm Tree:1.2), sea", "BUSES", "", "  ", "a cat and a dog"],
)
def test_a_prompt_that_names_one_of_them_is_no_matter(prompt: str) -> None:
    assert beyond(prompt, FEW) == ()


@pytest.mark.parametrize("prompt", ["a dog", "concatenation", "tree palm", "a busy street"])
def test_another_is_told_all_of_them(prompt: str) -> None:
    [warning] = beyond(prompt, FEW)
    assert warning.endswith("it can draw: cat, palm tree, bus.")


def test_a_model_without_a_vocabulary_draws_everything() -> None:
    assert beyond("a dog", ()) == ()


def test_the_demo_says_what_it_can_draw_and_warns_of_all_else() -> None:
    model = open_model(ENGINES, "demo")
    assert "It can draw: apple, " in model.manifest.described
    fine, odd = (model.read({"prompt": text}).to_json() for text in ("a red heart", "a lake"))
    assert model.warnings(fine) == []
    [warning] = model.warnings(odd)
    assert "heart" in warning
