"""Bounds of one caller: by a clock of the test's, and over a real server."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.types import Scope

from api.bounds import CallerBounds
from api.callers import KEY, SWEEP, Caller, Callers, OverBound
from api.keys import ApiKey, KeyFile
from api.keys import Scope as Right
from tests.api.live import Api, LiveServer, Options, refused, small

KEYED = ApiKey("0123456789ab", "painter", Right.GENERATE, "", "")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def request(address: str, *forwarded: str, key: ApiKey | None = None) -> Scope:
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    named = {KEY: key} if key else {}
    return {"type": "http", "client": (address, 50000), "headers": headers, **named}


def asked(callers: Callers, caller: Caller, pictures: int = 1) -> float:
    """Seconds after which the caller may ask; 0 where it did."""
    try:
        with callers.asking(caller, pictures):
            return 0.0
    except OverBound as refusal:
        return refusal.retry_seconds


def test_a_minutes_pictures_come_at_once_and_then_one_by_one(clock: Clock) -> None:
    callers = Callers(CallerBounds(6), clock)
    caller, other = (callers.of(request(address)) for address in ("192.0.2.1", "192.0.2.2"))
    assert [asked(callers, caller) for _ in range(7)] == [0, 0, 0, 0, 0, 0, 10]
    assert asked(callers, other) == 0
    clock.now += 9.5
    assert asked(callers, caller) == 0.5
    clock.now += 0.5
    assert [asked(callers, caller), asked(callers, caller)] == [0, 10]
    clock.now += 1000
    assert [asked(callers, caller) for _ in range(7)] == [0, 0, 0, 0, 0, 0, 10]


def test_more_than_a_minutes_pictures_are_paid_off(clock: Clock) -> None:
    callers = Callers(CallerBounds(6), clock)
    caller = callers.of(request("192.0.2.1"))
    assert [asked(callers, caller, 9), asked(callers, caller)] == [0, 40]
    clock.now += 40
    assert [asked(callers, caller), asked(callers, caller, 9)] == [0, 60]


def test_what_was_not_taken_is_not_counted(clock: Clock) -> None:
    callers = Callers(CallerBounds(1), clock)
    caller = callers.of(request("192.0.2.1"))
    with pytest.raises(RuntimeError), callers.asking(caller, 1):
        raise RuntimeError("the queue is full")
    assert [asked(callers, caller), asked(callers, caller)] == [0, 60]


def test_a_key_has_its_own_rate_wherever_it_comes_from(clock: Clock) -> None:
    callers = Callers(CallerBounds(5), clock)
    own = ApiKey(KEYED.id, "painter", Right.GENERATE, "", "", rate=1)
    first, second = (callers.of(request(each, key=own)) for each in ("192.0.2.1", "192.0.2.2"))
    assert first == second == Caller(KEYED.id, 1)
    assert callers.of(request("192.0.2.1", key=KEYED)).rate == 5
    assert [asked(callers, first), asked(callers, second)] == [0, 60]


@pytest.mark.parametrize(
    ("address", "forwarded", "believed", "name"),
    [
        ("192.0.2.1", (), False, "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), False, "192.0.2.1"),
        ("192.0.2.1", ("203.0.113.1, 198.51.100.7",), True, "198.51.100.7"),
        ("192.0.2.1", ("203.0.113.1", "198.51.100.7"), True, "198.51.100.7"),
        ("192.0.2.1", (), True, "192.0.2.1"),
        ("192.0.2.1", ("x" * 900,), True, "x" * 64),
        ("2001:db8:1:2:3:4:5:6", (), False, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", (), False, "2001:db8:1:2::/64"),
    ],
)
def test_a_caller_without_a_key_is_its_address(
    address: str, forwarded: tuple[str, ...], believed: bool, name: str
) -> None:
    callers = Callers(CallerBounds(forwarded=believed))
    assert callers.of(request(address, *forwarded)).name == name


def test_callers_of_long_ago_are_forgotten_and_others_are_not(clock: Clock) -> None:
    callers = Callers(CallerBounds(1), clock)
    for number in range(4 * SWEEP):
        assert asked(callers, Caller(str(number), 1)) == 0
        clock.now += 1 / 8
    assert callers.known <= SWEEP
    assert asked(callers, Caller(str(4 * SWEEP - 1), 1)) == 60 - 1 / 8


def test_a_stream_more_is_refused_until_one_has_ended() -> None:
    callers = Callers(CallerBounds(streams=2))
    one, other = Caller("one", None), Caller("other", None)
    with ExitStack() as open_streams:
        open_streams.enter_context(callers.streaming(one))
        with callers.streaming(one):
            with pytest.raises(OverBound, match="2 streams of this caller"):
                open_streams.enter_context(callers.streaming(one))
            open_streams.enter_context(callers.streaming(other))
        open_streams.enter_context(callers.streaming(one))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("bounded"))


@pytest.fixture(scope="module")
def slow(keys: KeyFile) -> dict[str, str]:
    """A key with a rate of its own."""
    return {"Authorization": "Bearer " + keys.create("slow", Right.GENERATE, rate=2)}


@pytest.fixture(scope="module")
def plain(keys: KeyFile) -> dict[str, str]:
    return {"Authorization": "Bearer " + keys.create("plain", Right.GENERATE)}


@pytest.fixture(scope="module")
def bounded(
    tiny_package: Path, keys: KeyFile, slow: dict[str, str], plain: dict[str, str]
) -> Iterator[LiveServer]:
    flags = ("--keys", "--pictures-per-minute", "3", "--streams-per-caller", "2")
    with LiveServer(Options(tiny_package, keys.path.parent, flags=flags)) as running:
        yield running


def submitted(api: Api, headers: dict[str, str], **body: object) -> httpx.Response:
    return api.client.post("/api/generate", json=small(steps=1, **body), headers=headers)


def test_a_caller_over_its_rate_is_told_when_to_come_again(
    bounded: LiveServer, slow: dict[str, str], plain: dict[str, str]
) -> None:
    api = bounded.api
    kept = {**slow, "Idempotency-Key": "kept"}
    first = submitted(api, kept)
    assert first.status_code == 202
    assert submitted(api, slow, width=63).status_code == 422
    assert submitted(api, slow).status_code == 202
    answer = submitted(api, slow)
    assert "2 pictures a minute" in refused(answer, 429)["detail"]
    assert 0 < int(answer.headers["retry-after"]) <= 30
    again = submitted(api, kept)
    assert (again.status_code, again.json()["job_id"]) == (202, first.json()["job_id"])
    assert [submitted(api, plain).status_code for _ in range(4)] == [202, 202, 202, 429]


def test_a_caller_has_so_many_streams_and_no_more(
    bounded: LiveServer, slow: dict[str, str], plain: dict[str, str]
) -> None:
    client = bounded.api.client
    path = "/api/sse/gallery"

    def opened(headers: dict[str, str]) -> bool:
        with client.stream("GET", path, headers=headers) as answer:
            return answer.status_code == 200

    with client.stream("GET", path, headers=plain), client.stream("GET", path, headers=plain):
        answer = client.get(path, headers=plain)
        assert "--streams-per-caller" in refused(answer, 429)["detail"]
        assert answer.headers["retry-after"] == "1"
        assert opened(slow)
    bounded.api.wait_until(lambda: opened(plain))
