import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.jobs.names import (
    cursor_after,
    new_job_id,
    read_cursor,
)


def test_job_ids_are_uuids_that_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for milliseconds in (1, 2, 1_000_000, 2**41):
        monkeypatch.setattr("time.time_ns", lambda now=milliseconds: now * 1_000_000)
        ids.append(new_job_id())
    assert ids == sorted(ids)
    for job_id in ids:
        assert len(job_id) == 32
        assert job_id[12] == "7"
        assert job_id[16] in "89ab"
    assert len({new_job_id() for _ in range(1000)}) == 1000


@given(st.integers(0, 2**63 - 1))
def test_a_cursor_is_read_back(sequence: int) -> None:
    assert read_cursor(cursor_after(sequence)) == sequence


@pytest.mark.fuzz
@given(st.integers(0, 2**40), st.integers(0, 15), st.characters(codec="ascii"))
def test_a_cursor_that_was_changed_is_not_ours(sequence: int, place: int, letter: str) -> None:
    cursor = cursor_after(sequence)
    changed = cursor[:place] + letter + cursor[place + 1 :]
    if changed != cursor:
        with pytest.raises(ValueError, match="no cursor of this gallery"):
            read_cursor(changed)


@pytest.mark.fuzz
@given(st.text())
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="no cursor of this gallery"):
        read_cursor(text)


def test_another_spelling_of_a_cursor_is_not_ours() -> None:
    cursor = cursor_after(2**62 + 12345)
    for spelling in (cursor + "=", cursor + "\n", base64.b16encode(cursor.encode()).decode()):
        with pytest.raises(ValueError, match="no cursor"):
            read_cursor(spelling)
