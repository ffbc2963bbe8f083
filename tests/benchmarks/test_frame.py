"""Figures, turns and the files of a result."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.frame import Figure, in_turns, keep, quantile

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30)


def test_contestants_take_turns_and_the_first_turns_do_not_count() -> None:
    calls: list[tuple[str, int]] = []

    def contestant(name: str) -> dict[str, object]:
        return {name: lambda turn: calls.append((name, turn)) or turn}

    taken = in_turns(contestant("A") | contestant("B"), 2, warm=1)
    assert calls == [("A", 0), ("B", 0), ("A", 1), ("B", 1), ("A", 2), ("B", 2)]
    assert taken == {"A": [1, 2], "B": [1, 2]}


def test_contestants_are_compared_turn_by_turn() -> None:
    # The machine was three times slower in the second turn: the ratio is the same in both.
    ours, theirs = Figure("ms", (10.0, 30.0)), Figure("ms", (20.0, 60.0))
    assert ours.over(theirs).values == (0.5, 0.5)
    assert theirs.minus(ours).values == (10.0, 30.0)


def test_figures_of_other_turns_are_not_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Figure("ms", (1.0, 2.0)).over(Figure("ms", (1.0,)))


@given(VALUES, st.floats(0, 1))
def test_a_quantile_lies_among_the_values_and_parts_them(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert min(values) <= found <= max(values)
    below = sum(value <= found for value in values)
    assert below >= share * (len(values) - 1)


def test_a_quantile_between_two_values_is_linear() -> None:
    assert quantile([4.0, 1.0, 2.0], 0.75) == 3.0


def test_a_result_has_its_figures_its_machine_and_a_chart(tmp_path: Path) -> None:
    figure = Figure("ms", (3.0, 1.0, 2.0))
    output = tmp_path / "results" / "made.json"
    keep(
        {"model": "none"}, output, {"a <b>": figure}, title="T & t", panels={"P": {"a <b>": figure}}
    )
    result = json.loads(output.read_text())
    assert result["model"] == "none"
    assert result["machine"]["cores"] >= 1
    entry = result["figures"]["a <b>"]
    assert (entry["p50"], entry["smallest"], entry["largest"]) == (2.0, 1.0, 3.0)
    assert entry["values"] == [3.0, 1.0, 2.0]
    drawn = ET.parse(output.with_suffix(".svg"))
    texts = [element.text for element in drawn.iter(f"{SVG}text")]
    assert texts == ["T & t", "P", "a <b>", "2 ms"]


def test_bars_of_a_panel_have_one_scale(tmp_path: Path) -> None:
    figures = {"one": Figure("ms", (10.0,)), "two": Figure("ms", (20.0,))}
    keep({}, tmp_path / "made.json", figures, panels={"P": figures})
    drawn = ET.parse(tmp_path / "made.svg")
    background, one, two = (
        float(each.get("width", "0").strip("%")) for each in drawn.iter(f"{SVG}rect")
    )
    assert background == 100
    assert two == pytest.approx(2 * one)
