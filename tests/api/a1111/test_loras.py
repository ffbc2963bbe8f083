"""LoRAs in a prompt."""

from typing import Any

import pytest

from api.a1111.loras import take_loras
from runtime.errors import RequestError


@pytest.mark.parametrize(
    ("prompt", "rest", "loras"),
    [
        ("a cat", "a cat", []),
        (" a <b> cat ", " a <b> cat ", []),
        ("a cat <lora:ink:0.8>", "a cat", [("ink", 0.8)]),
        ("<lora:ink>", "", [("ink", 1.0)]),
        ("a <lora:ink:-.5>, b", "a, b", [("ink", -0.5)]),
        ("<LORA:a b:1.> x <lyco:c:2>", "x", [("a b", 1.0), ("c", 2.0)]),
        ("a <lora:ink:0.8", "a <lora:ink:0.8", []),
    ],
)
def test_tags_are_taken_out(prompt: str, rest: str, loras: list[tuple[str, float]]) -> None:
    taken = take_loras(prompt)
    expected: list[dict[str, Any]] = [{"id": name, "weight": weight} for name, weight in loras]
    assert (taken.prompt, list(taken.loras)) == (rest, expected)


@pytest.mark.parametrize(
    "tag", ["<lora:ink:1:0.5>", "<lora:ink:te=1>", "<lora:ink:nan>", "<lora:ink:>", "<hypernet:x>"]
)
def test_a_tag_that_cannot_be_honoured_is_refused(tag: str) -> None:
    with pytest.raises(RequestError, match="prompt: <"):
        take_loras(f"a cat {tag}")
