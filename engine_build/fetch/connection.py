"""One HTTP request, asked again while that may help, and its refusals in plain words."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2

from runtime.errors import SourceError

_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_RANGE_NOT_SATISFIABLE = 416
_TOO_MANY_REQUESTS = 429

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Patience:
    """The attempts and pauses before a failing server is given up."""

    attempts: int = 5
    """Failures in a row, with no byte received between them."""
    pause_seconds: float = 1.0
    """The pause before the second attempt; doubled before each later attempt."""
    longest_wait_seconds: float = 60.0
    """The longest pause, in seconds, that a server may ask for; a longer one ends the download."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and the environment variable that it comes from."""

    variable: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Address:
    """A URL with its token, which goes to this host only, never to one that it redirects to."""

    url: str
    token: Token | None = None

    @property
    def host(self) -> str:
        return httpx2.URL(self.url).host

    def headers(self) -> dict[str, str]:
        """The request's headers. The content is wanted as it is stored, for its size and hash."""
        headers = {"Accept-Encoding": "identity"}
        if self.token is not None and self.token.value:
            headers["Authorization"] = f"Bearer {self.token.value}"
        return headers


class TryAgain(Exception):
    """A failure that may pass."""

    def __init__(
        self, reason: str, *, after_seconds: float | None = None, progressed: bool = False
    ) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.progressed = progressed
        """True where bytes were received before the failure."""


def persist(action: Callable[[], ResultT], patience: Patience) -> ResultT:
    """Repeat an action that raises TryAgain. Raises SourceError when the patience ends."""
    failures = 0
    while True:
        try:
            return action()
        except TryAgain as error:
            failures = 1 if error.progressed else failures + 1
            if failures >= patience.attempts:
                raise SourceError(f"{error}; gave up after {failures} attempts in a row") from error
            pause = patience.pause_seconds * 2 ** (failures - 1)
            wait = pause if error.after_seconds is None else error.after_seconds
            if wait > patience.longest_wait_seconds:
                raise SourceError(f"{error}, asks to wait {wait:.0f} seconds; try later") from error
        time.sleep(wait)


@contextlib.contextmanager
def answer(address: Address, headers: Mapping[str, str] | None = None) -> Iterator[httpx2.Response]:
    """The answer to one GET, of status 200, 206 or 416, with its body still to be read.

    Raises TryAgain for a failure that may pass, also while the block reads the body, and
    SourceError for a refusal.
    """
    try:
        with (
            httpx2.Client(timeout=_TIMEOUT, follow_redirects=True) as client,
            client.stream(
                "GET", address.url, headers={**address.headers(), **(headers or {})}
            ) as response,
        ):
            _check(response, address)
            yield response
    except httpx2.TransportError as error:
        raise TryAgain(f"{address.url}: {str(error) or type(error).__name__}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceError(f"{address.url}: {error}") from error


def _check(response: httpx2.Response, address: Address) -> None:
    status = response.status_code
    if status == _TOO_MANY_REQUESTS or status >= 500:
        raise TryAgain(
            f"{address.url}: the server answers {status} {response.reason_phrase}",
            after_seconds=_retry_after(response),
        )
    if status in (401, 403):
        raise SourceError(_wants_token(address, f"answers {status} {response.reason_phrase}"))
    if status in (404, 410):
        raise SourceError(f"{address.url}: there is no such thing there ({status})")
    if status not in (200, 206, _RANGE_NOT_SATISFIABLE):
        raise SourceError(f"{address.url}: an unexpected answer, {status} {response.reason_phrase}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise SourceError(_wants_token(address, "sends a web page, not a file"))


def _wants_token(address: Address, what: str) -> str:
    if address.token is None:
        remedy = "download it by hand, and give its path"
    elif address.token.value:
        remedy = f"the token in {address.token.variable} may not read it"
    else:
        remedy = f"put a token of yours into {address.token.variable}"
    return f"{address.url}: {address.host} {what}; {remedy}"


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds, from either form of the header (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
