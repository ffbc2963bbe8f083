"""The inputs of fuzzes, and `make fuzz`, on small fuzzes of their own."""

import json
import re
from pathlib import Path

import pytest

from scripts import fuzz
from tests.inputs import Inputs
from tests.places import ROOT

FUZZES = """
import pytest
from hypothesis import given, strategies as st

@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["a", "b"])
def test_plain(inputs, kind):
    assert len({chance.random() for chance in inputs}) == 40

@pytest.mark.fuzz
def test_fails(inputs):
    for chance in inputs:
        assert chance.randrange(8)

@pytest.mark.fuzz
@given(st.integers())
def test_drawn(number):
    pass

@pytest.mark.fuzz
@given(st.booleans())
def test_has_two_inputs(value):
    pass

@pytest.mark.fuzz
@given(st.integers())
def test_counts_for_itself(inputs, number):
    inputs.count()
    inputs.count()

@pytest.mark.fuzz
def test_does_not_begin(inputs, monkeypatch, tmp_path, no_such_fixture):
    pass
"""


def test_an_input_is_had_again_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs("7", 5)
    inputs.begin("test_a")
    assert inputs.last() == "before the first input"
    first = [chance.random() for chance in inputs]
    assert (len(set(first)), inputs.tried) == (5, 5)
    assert inputs.last() == "input 4; again with FUZZ_FIRST=4 --hypothesis-seed 7"
    inputs.begin("test_a")
    assert (inputs.tried, [chance.random() for chance in inputs]) == (0, first)
    monkeypatch.setattr("tests.inputs.FIRST", 3)
    inputs.begin("test_a")
    assert [chance.random() for chance in inputs][:2] == first[3:]
    inputs.begin("test_b")
    assert set(first).isdisjoint(chance.random() for chance in inputs)


def test_fuzzes_are_run_and_their_inputs_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_fuzzes.py").write_text(FUZZES)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p tests.inputs -p no:cacheprovider")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(fuzz, "ROOT", tmp_path)
    written = tmp_path / "fuzz.json"
    arguments = ["--inputs", "40", "--seed", "3", "--seconds", "60", "--write", str(written)]
    assert fuzz.main(arguments) == 1
    told = capsys.readouterr().out
    kept = json.loads(written.read_text())
    outcomes = {
        each["name"].partition("::")[2]: (each["result"], each["inputs"]) for each in kept["fuzzes"]
    }
    assert outcomes.pop("test_fails") == ("failed", outcomes_of(told))
    assert outcomes == {
        "test_plain[a]": ("clean", 40),
        "test_plain[b]": ("clean", 40),
        "test_drawn": ("clean", 40),
        "test_has_two_inputs": ("too few inputs", 2),
        "test_counts_for_itself": ("clean", 80),
        "test_does_not_begin": ("failed", 0),
    }
    assert kept["seed"] == 3
    assert "4 of 7 fuzzes are clean" in told
    assert fuzz.main(["--inputs", "40", "--only", "plain"]) == 0
    with pytest.raises(SystemExit, match="no fuzz is called 'nothing'"):
        fuzz.main(["--only", "nothing"])
    (tmp_path / "tests/test_torn.py").write_text("import no_such_module\n# pytest.mark.fuzz\n")
    with pytest.raises(SystemExit, match="not all fuzzes can be read"):
        fuzz.main(["--only", "plain"])


def outcomes_of(told: str) -> int:
    """The count of inputs at a failure, as the failure itself says."""
    found = re.search(r"input (\d+); again with FUZZ_FIRST=\1 --hypothesis-seed 3", told)
    assert found is not None
    return int(found[1]) + 1
