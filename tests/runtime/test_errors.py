"""Values and names that others wrote, in messages."""

import pytest

from runtime.errors import Fault, named, quoted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5, "5"),
        ("a\nb\x1b", r"'a\nb\x1b'"),
        ([1] * 100, "[1, " + "1, " * 24 + "1..."),
        ("9" * 5_000, "'" + "9" * 76 + "..."),
    ],
)
def test_a_value_is_quoted_in_part(value: object, shown: str) -> None:
    assert quoted(value) == shown
    assert len(shown) <= 80


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("beta_start", "beta_start"),
        ("größe", "größe"),
        ("a[1]", "a[1]"),
        ("a\nb", r"'a\nb'"),
        ("", "''"),
    ],
)
def test_a_name_stands_as_it_is_where_it_is_a_plain_one(name: str, shown: str) -> None:
    assert named(name) == shown


def test_a_fault_of_a_field_with_a_long_name_is_short() -> None:
    fault = Fault("/" + "a" * 5_000, "unknown field")
    assert str(fault) == "a" * 200 + "...: unknown field"
