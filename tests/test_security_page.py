"""The tests that docs/security.md names are there."""

import re

import pytest

from tests.places import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_is_there(file: str, name: str) -> None:
    text = (ROOT / file).read_text()
    assert f"def {name}(" in text if name else "def test_" in text


def test_every_threat_names_one() -> None:
    threats = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    rows = threats[threats.index("| threat | what stands against it | test |") + 1 :]
    assert len(rows) > 15
    assert all("`tests/" in row for row in rows)
