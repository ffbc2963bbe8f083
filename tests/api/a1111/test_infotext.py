"""The web UI's text of a picture, read as the web UI reads it."""

import pytest

from api.a1111.infotext import read_infotext

SETTINGS = 'Steps: 2, Sampler: Euler a, Size: 64x32, Lora hashes: "ink: ab, b: cd", RNG: CPU'


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (f"a cat\nNegative prompt: b\n{SETTINGS}", "a cat", "b"),
        (f"a cat,\nof two lines\nNegative prompt: b\nand more\n{SETTINGS}", None, "b\nand more"),
        (f"a cat\n{SETTINGS}", "a cat", ""),
        (f"Negative prompt: b\n{SETTINGS}", "", "b"),
    ],
)
def test_a_text_has_prompts_and_settings(text: str, prompt: str | None, negative: str) -> None:
    found = read_infotext(text)
    assert prompt is None or found["Prompt"] == prompt
    assert found["Negative prompt"] == negative
    assert (found["Size-1"], found["Size-2"], found["RNG"]) == ("64", "32", "CPU")
    assert found["Lora hashes"] == "ink: ab, b: cd"


def test_a_text_without_settings_is_a_prompt() -> None:
    assert read_infotext("a: b, c: d") == {"Prompt": "a: b, c: d", "Negative prompt": ""}
    assert read_infotext(" \n") == {}
