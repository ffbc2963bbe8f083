"""The `Prefer` header, as RFC 7240 has it."""

import pytest

from api.preferences import preferred_wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=1", 1),
        ("wait=60", 60),
        ("wait=61", 60),
        ("wait=99999999999", 60),
        ("Wait = 10", 10),
        ('wait="10"', 10),
        ("respond-async, wait=10", 10),
        ("wait=10; loudly=no, respond-async", 10),
        ("wait=5, wait=10", 5),
    ],
)
def test_a_wait_is_read(header: str, seconds: int) -> None:
    assert preferred_wait(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "wait",
        "wait=",
        "wait=0",
        "wait=-1",
        "wait=1.5",
        "await=10",
        "wait=ten",
        "wait=\u0661\u0660",
        "lenient=wait=10",
    ],
)
def test_anything_else_is_passed_over(header: str | None) -> None:
    assert preferred_wait(header) is None
