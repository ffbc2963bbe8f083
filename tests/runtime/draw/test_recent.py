"""Values that a cache keeps, and values that it drops."""

from runtime.draw.recent import Recent


def recent(budget_bytes: int, at_least: int = 0) -> Recent[str, bytes]:
    return Recent(budget_bytes, len, at_least)


def test_what_was_used_longest_ago_goes_first() -> None:
    kept = recent(6)
    for key in "abc":
        kept.keep(key, key.encode() * 2)
    assert kept.get("a") == b"aa"
    kept.keep("d", b"dd")
    assert [kept.get(key) for key in "abcd"] == [b"aa", None, b"cc", b"dd"]
    assert kept.used_bytes == 6


def test_a_large_value_drives_out_as_many_as_it_needs() -> None:
    kept = recent(6)
    for key in "abc":
        kept.keep(key, key.encode() * 2)
    kept.keep("d", b"dddd")
    assert [kept.get(key) for key in "abcd"] == [None, None, b"cc", b"dddd"]
    assert kept.used_bytes == 6


def test_what_is_larger_than_the_budget_is_kept_only_where_a_value_always_is() -> None:
    for at_least, expected in ((0, None), (1, b"dddd")):
        kept = recent(3, at_least)
        kept.keep("a", b"a")
        kept.keep("d", b"dddd")
        assert kept.get("a") is None
        assert kept.get("d") == expected
        assert kept.used_bytes == len(expected or b"")


def test_a_value_that_two_threads_made_is_counted_once() -> None:
    kept = recent(6)
    kept.keep("a", b"aa")
    kept.keep("a", b"aaa")
    assert kept.get("a") == b"aaa"
    assert kept.used_bytes == 3
