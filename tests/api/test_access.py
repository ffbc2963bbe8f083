"""Names that a server answers to, and sites whose pages may use it."""

import json
from random import Random

import pytest
from starlette.datastructures import Headers

from api.access import Access, malformed_host, read_hosts, read_origins
from api.errors import problem
from api.preferences import MAX_WAIT_SECONDS, preferred_wait
from tests.hostile import hostile_bytes, odd_text
from tests.inputs import Inputs

LOOPBACK = Access(address="127.0.0.1")


def asks(access: Access, host: str, **headers: str) -> bool:
    return access.host_fault(Headers({"host": host, **headers})) is None


def changes(access: Access, origin: str | None, site: str | None = None, **more: str) -> bool:
    named = {"origin": origin, "sec-fetch-site": site, "host": "localhost:8000", **more}
    headers = {name: value for name, value in named.items() if value is not None}
    return access.origin_fault("POST", Headers(headers)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:9000", "LOCALHOST", "localhost.", "app.localhost"),
        *("127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::ffff:127.0.0.1]", "0.0.0.0:8000"),
        *("host.docker.internal:8000", "host.containers.internal"),
    ],
)
def test_a_loopback_server_answers_to_the_names_of_its_machine(host: str) -> None:
    assert asks(LOOPBACK, host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "evillocalhost"),
        *("127.0.0.1.evil.example", "192.168.1.7", "2130706433", "[fe80::1]"),
    ],
)
def test_a_loopback_server_refuses_other_names_and_says_how_one_is_allowed(host: str) -> None:
    fault = LOOPBACK.host_fault(Headers({"host": host}))
    assert fault is not None
    assert "--allowed-hosts" in fault
    assert asks(Access(address="0.0.0.0"), host)
    assert asks(Access(address="127.0.0.1", hosts=("*",)), host)


def test_the_machines_own_name_and_the_address_listened_on_are_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Desk")
    assert asks(LOOPBACK, "desk:8000")
    assert asks(LOOPBACK, "desk.local")
    assert not asks(LOOPBACK, "chair.local")
    assert asks(Access(hosts=("a.example",), address="10.0.0.5"), "10.0.0.5:8000")


def test_a_setting_of_hosts_holds_on_every_address() -> None:
    access = Access(hosts=("pictures.example", "*.example.org"), address="0.0.0.0")
    taken = ("pictures.example", "a.example.org", "a.b.example.org:80", "localhost")
    assert all(asks(access, host) for host in taken)
    refused = ("example.org", "badexample.org", "pictures.example.evil", "a.pictures.example")
    assert not any(asks(access, host) for host in refused)


def test_a_forwarded_host_is_believed_by_setting_alone() -> None:
    forwarded = {"x-forwarded-host": "evil.example, pictures.example"}
    asked = Access(hosts=("pictures.example",), address="127.0.0.1")
    behind = Access(hosts=("pictures.example",), address="127.0.0.1", forwarded=True)
    assert not asks(asked, "upstream", **forwarded)
    assert asks(behind, "upstream", **forwarded)
    assert not asks(behind, "localhost", **{"x-forwarded-host": "evil.example"})
    own = {"x-forwarded-host": "pictures.example"}
    assert changes(behind, "https://pictures.example", **own)
    assert not changes(asked, "https://pictures.example", **own)


@pytest.mark.parametrize(
    ("origin", "site", "allowed"),
    [
        (None, None, True),  # no browser
        ("http://localhost:8000", None, True),
        ("https://localhost:8000", None, True),  # a proxy ends TLS
        ("HTTP://LOCALHOST:8000", None, True),
        ("http://localhost:8000", "same-origin", True),
        ("https://pictures.example", "same-origin", True),  # a proxy changed Host
        (None, "none", True),  # typed by the user
        ("https://app.example", "cross-site", True),
        ("https://app.example", None, True),
        ("http://app.example", None, False),
        ("https://app.example:8443", None, False),
        ("http://evil.example", None, False),
        ("http://evil.example", "cross-site", False),
        ("http://localhost:3000", None, False),
        ("http://localhost:3000", "same-site", False),
        ("http://localhost", None, False),
        ("null", None, False),
        ("", None, False),
        (None, "cross-site", False),
        (None, "same-site", False),
    ],
)
def test_only_pages_of_ours_and_of_allowed_sites_change_anything(
    origin: str | None, site: str | None, allowed: bool
) -> None:
    access = Access(origins=("https://app.example",), address="127.0.0.1")
    assert changes(access, origin, site) == allowed
    headers = Headers({"origin": origin or "null", "sec-fetch-site": "cross-site"})
    for method in ("GET", "HEAD", "OPTIONS"):
        assert access.origin_fault(method, headers) is None


@pytest.mark.parametrize(("origin", "host"), [("http://a:80", "a"), ("https://a", "a:443")])
def test_a_default_port_may_be_left_out(origin: str, host: str) -> None:
    assert changes(Access(), origin, host=host)
    assert not changes(Access(), origin, host="a:8000")


def test_any_origin_may_be_allowed() -> None:
    access = Access(origins=("*",))
    assert changes(access, "http://evil.example", "cross-site")
    assert changes(access, "null", "cross-site")


@pytest.mark.parametrize("hosts", [[], ["a", "b"], [""], ["a/b"], ["u@a"], ["a:b"], ["a, b"]])
def test_a_request_has_one_host_of_the_right_form(hosts: list[str]) -> None:
    headers = Headers(raw=[(b"host", host.encode()) for host in hosts])
    assert malformed_host(headers, "1.1") is not None
    assert (malformed_host(headers, "1.0") is None) == (hosts == [])


def test_lists_of_settings_are_read_and_refused_by_entry() -> None:
    assert read_hosts(" A.example , *.B.example,[::1], ::1,*,") == (
        *("a.example", "*.b.example", "::1", "::1", "*"),
    )
    assert read_origins("https://App.example/, null,tauri://localhost") == (
        *("https://app.example", "null", "tauri://localhost"),
    )
    for wrong in ("http://a", "a:80", "a b", "a*", "*.", "a/b"):
        with pytest.raises(ValueError, match="no name of a host"):
            read_hosts(f"fine.example,{wrong}")
    for wrong in ("a.example", "http://", "http://a/b", "http://a b", "//a"):
        with pytest.raises(ValueError, match="no origin"):
            read_origins(f"https://fine.example,{wrong}")


VALUES = (
    *(
        b"localhost:8000",
        b"a.example.org",
        b"[::1]:80",
        b"http://localhost",
        b"https://app.example",
    ),
    *(b"null", b"same-origin", b"cross-site", b"wait=5, respond-async", b"127.0.0.1"),
)
NAMES = (b"host", b"origin", b"sec-fetch-site", b"x-forwarded-host", b"prefer")


def any_headers(chance: Random) -> Headers:
    """Headers that a request may have, often twice, with values that are changed or none."""
    raw = []
    for name in chance.choices(NAMES, k=chance.randrange(6)):
        value = chance.choice(VALUES)
        changed = (
            value,
            hostile_bytes(chance, value),
            odd_text(chance, 8).encode("utf-8", "replace"),
        )
        raw.append((name, chance.choice(changed)))
    return Headers(raw=raw)


@pytest.mark.fuzz
def test_any_headers_are_judged(inputs: Inputs) -> None:
    """Whatever stands in them, and a refusal is an answer that is JSON."""
    access = Access(
        hosts=("*.example.org",),
        origins=("https://app.example",),
        address="127.0.0.1",
        forwarded=True,
    )
    for chance in inputs:
        headers = any_headers(chance)
        faults = [
            malformed_host(headers, chance.choice(("1.0", "1.1"))),
            access.host_fault(headers),
            access.origin_fault(chance.choice(("GET", "POST")), headers),
            access.refusal(headers.get("origin")),
        ]
        for fault in filter(None, faults):
            assert json.loads(bytes(problem(403, fault).body))["detail"] == fault
        wait = preferred_wait(headers.get("prefer"))
        assert wait is None or 1 <= wait <= MAX_WAIT_SECONDS
