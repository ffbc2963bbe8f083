"""Access policy: the names that this server answers to, and the sites whose pages may use it.

A page of any site can send requests to a server on its reader's machine: by a form, which no
browser asks about first, or under a name of its own that it lets resolve to 127.0.0.1 ("DNS
rebinding"). The first is told by `Origin` and `Sec-Fetch-Site`, the second by `Host`.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers

ANY = "*"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# Names by which containers reach the machine that they run on.
_CONTAINERS = ("host.docker.internal", "host.containers.internal")

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\s:/?#@\[\]\\,]+)(?::(?P<port>\d{1,5}))?")
_NAME = re.compile(r"\*|(\*\.)?[^\s:/?#@\[\]\\*]+")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^\s/?#@\\,]+)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Access:
    """The policy. `hosts`: names to answer to beside this machine's own, `*.example.org` for those
    below a name; `origins`: sites whose pages may use the server; `*` in either is any.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    address: str = "0.0.0.0"  # noqa: S104  the wildcard as a value: nothing is bound here
    """Address that is listened on. On loopback, names of other machines are refused."""
    forwarded: bool = False
    """True when `X-Forwarded-Host` is believed: a reverse proxy of ours sets it."""

    def host_fault(self, headers: Headers) -> str | None:
        """The fault of a request's `Host`, as a sentence; None for a name of ours, and for none at
        all, which HTTP/1.0 may send and no browser does.
        """
        host = self._host(headers)
        everyone = ANY in self.hosts or not (self.hosts or is_loopback(self.address))
        if host is None or everyone:
            return None
        name = host_name(host) or host
        if name in _own_names(self.address) or name.endswith(".localhost") or is_loopback(name):
            return None
        if any(_covers(allowed, name) for allowed in self.hosts):
            return None
        return (
            f"Host {name!r} is no name of this server; if it is one, start the server with "
            f"--allowed-hosts {name} (CALOTYPE_ALLOWED_HOSTS)"
        )

    def origin_fault(self, method: str, headers: Headers) -> str | None:
        """The fault of a request that changes something and comes from another site's page.

        The order is that of `CrossOriginProtection` in Go's net/http: an allowed origin, then the
        browser's own word (`Sec-Fetch-Site`), which holds behind proxies that change `Host`, then
        `Origin` against `Host`. A program that is no browser sends neither.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if method in SAFE_METHODS or self.allows(origin) or site in {"same-origin", "none"}:
            return None
        if site is None and (origin is None or self._is_own(origin, headers)):
            return None
        return self.refusal(origin)

    def refusal(self, origin: str | None) -> str:
        """The sentence that refuses a page of that origin."""
        if origin is None:
            return "a page of another site may not change anything here"
        return (
            f"a page of {origin} may not use this server; if it shall, start the server with "
            f"--allowed-origins {origin} (CALOTYPE_ALLOWED_ORIGINS)"
        )

    def allows(self, origin: str | None) -> bool:
        """True for an origin that a setting names."""
        return origin is not None and (ANY in self.origins or origin.lower() in self.origins)

    def _host(self, headers: Headers) -> str | None:
        forwarded = headers.getlist("x-forwarded-host") if self.forwarded else []
        # The last name is the nearest proxy's; those before it may be the client's own words.
        host = forwarded[-1].rpartition(",")[2].strip() if forwarded else headers.get("host")
        return host.lower() if host is not None else None

    def _is_own(self, origin: str, headers: Headers) -> bool:
        parts = _ORIGIN.fullmatch(origin.lower())
        host = self._host(headers)
        if parts is None or host is None:
            return False
        suffix = ":" + _DEFAULT_PORTS.get(parts["scheme"], "")
        return parts["host"].removesuffix(suffix) == host.removesuffix(suffix)


def malformed_host(headers: Headers, http_version: str) -> str | None:
    """The fault in the form of a request's `Host` (RFC 9112, 3.2), as a sentence; else None."""
    given = headers.getlist("host")
    if len(given) > 1 or (not given and http_version == "1.1"):
        return f"a request has one Host header; this one has {len(given)}"
    if given and host_name(given[0]) is None:
        return f"Host {given[0]!r} is no name with or without a port"
    return None


def host_name(host: str) -> str | None:
    """The name in `name:port`, lower case, without brackets or a final dot; None for no name."""
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    found = _HOST.fullmatch(host.lower())
    return found["name"].strip("[]").removesuffix(".") if found else None


def read_hosts(text: str) -> tuple[str, ...]:
    """Names separated by commas. Raises ValueError for one that is none."""
    names = [entry.strip("[]") for entry in _entries(text)]
    for name in names:
        if not (_is_address(name) or _NAME.fullmatch(name)):
            raise ValueError(f"{name!r} is no name of a host, such as pictures.example.org")
    return tuple(name.removesuffix(".") for name in names)


def read_origins(text: str) -> tuple[str, ...]:
    """Origins separated by commas. Raises ValueError for one that is none."""
    origins = []
    for entry in _entries(text):
        origin = entry.removesuffix("/")
        if origin not in {ANY, "null"} and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{entry!r} is no origin, such as https://app.example.org")
        origins.append(origin)
    return tuple(origins)


def _entries(text: str) -> Iterable[str]:
    return (entry.strip().lower() for entry in text.split(",") if entry.strip())


def _covers(allowed: str, name: str) -> bool:
    return name == allowed or (allowed.startswith("*.") and name.endswith(allowed[1:]))


def _own_names(address: str) -> set[str | None]:
    name = socket.gethostname().lower()
    return {host_name(address), "0.0.0.0", name, f"{name.partition('.')[0]}.local", *_CONTAINERS}  # noqa: S104


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """True for an address or a name that this machine alone reaches."""
    if not _is_address(name):
        return name.lower() == "localhost"
    address = ip_address(name.strip("[]"))
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)
