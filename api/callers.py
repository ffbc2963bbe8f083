"""Callers of the server and the bounds of each: pictures a minute, and streams at once.

A caller is an API key or, where the server takes none, an address.

The rate is held by the generic cell rate algorithm (ITU-T I.371): one number for each caller, by
the clock that never jumps. The library `limits` keeps a list of wall-clock times for each caller
and starts a thread to clear it, which a submission would wait for.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

from api.bounds import CallerBounds
from api.keys import ApiKey
from runtime.errors import CalotypeError

KEY = "calotype.key"
"""Name in a request's scope of the caller's API key."""

WINDOW_SECONDS = 60.0
SWEEP = 1024
"""Number of callers at which those whose last picture is long past are first forgotten."""
_ONE_HOST = 64
"""Bits of an IPv6 address that tell one site from another: each has a whole network below them."""


class OverBound(CalotypeError):
    """A caller is over a bound of its own; it may try again after `retry_seconds`."""

    def __init__(self, text: str, retry_seconds: float) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: its name here, and the pictures a minute that it may ask for."""

    name: str
    rate: int | None


class Callers:
    """Pictures and streams of every caller, held to its bounds. The event loop's alone."""

    def __init__(
        self,
        bounds: CallerBounds = CallerBounds(),  # noqa: B008  frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: in seconds, never back."""
        self._bounds = bounds
        self._clock = clock
        self._used_until: dict[str, float] = {}
        """By caller, the time at which all that it asked for would have come at its rate."""
        self._sweep_at = SWEEP
        self._streams: Counter[str] = Counter()

    def of(self, scope: Scope) -> Caller:
        """The caller of a request."""
        key: ApiKey | None = scope.get(KEY)
        if key is not None:
            return Caller(key.id, key.rate or self._bounds.pictures_a_minute)
        return Caller(self._address(scope), self._bounds.pictures_a_minute)

    @property
    def known(self) -> int:
        """Number of callers of whom something is remembered."""
        return len({*self._used_until, *self._streams})

    @contextmanager
    def asking(self, caller: Caller, pictures: int) -> Iterator[None]:
        """Count pictures that a caller asks for; not where the context ends by an error.

        Raises OverBound. More pictures than a minute's are let through for a caller that asked for
        none lately, and then paid off.
        """
        if caller.rate is None:
            yield
            return
        cost = pictures * WINDOW_SECONDS / caller.rate
        now = self._clock()
        used = max(self._used_until.get(caller.name, 0.0) - now, 0.0)
        wait = used + min(cost, WINDOW_SECONDS) - WINDOW_SECONDS
        if wait > 0:
            raise OverBound(
                f"{caller.rate} pictures a minute may be asked for; the next in {wait:.1f} s", wait
            )
        self._used_until[caller.name] = now + used + cost
        self._forget_idle(now)
        try:
            yield
        except BaseException:
            self._used_until[caller.name] = self._used_until.get(caller.name, now) - cost
            raise

    @contextmanager
    def streaming(self, caller: Caller) -> Iterator[None]:
        """Count a stream while the context is open. Raises OverBound."""
        most = self._bounds.streams
        if self._streams[caller.name] >= most:
            raise OverBound(
                f"{most} streams of this caller are open, the most at once "
                "(--streams-per-caller); close one",
                retry_seconds=1.0,
            )
        self._streams[caller.name] += 1
        try:
            yield
        finally:
            self._streams[caller.name] -= 1
            if not self._streams[caller.name]:
                del self._streams[caller.name]

    def _forget_idle(self, now: float) -> None:
        if len(self._used_until) < self._sweep_at:
            return
        self._used_until = {name: at for name, at in self._used_until.items() if at > now}
        self._sweep_at = max(SWEEP, 2 * len(self._used_until))

    def _address(self, scope: Scope) -> str:
        client = scope.get("client")
        text = client[0] if client else ""
        if self._bounds.forwarded:
            # The last address is the one that the proxy in front saw; those before it are a claim.
            told = Headers(scope=scope).getlist("x-forwarded-for")
            text = ",".join([text, *told]).rpartition(",")[2].strip()
        try:
            address = ip_address(text)
        except ValueError:
            return text[:64]
        if isinstance(address, IPv6Address):
            return str(ip_network((address, _ONE_HOST), strict=False))
        return str(address)
