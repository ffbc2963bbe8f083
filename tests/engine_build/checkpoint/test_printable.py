"""Names in messages: as they are, escaped, or cut short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_build.checkpoint.printable import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.b", "a.b"),
        ("a\nb", r"'a\nb'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        ("x" * 900, "x" * 200 + "..."),
    ],
)
def test_a_name_is_shown_in_one_line(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.fuzz
@given(name=st.text())
def test_any_name_fits_one_line(name: str) -> None:
    assert len(printable(name).splitlines()) <= 1
    assert printable(name).isprintable()
