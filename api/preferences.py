"""`Prefer` header (RFC 7240): the time that a caller waits for the end of its job."""

import re

MAX_WAIT_SECONDS = 60

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,20})"?\s*(?=[,;]|$)', re.ASCII | re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """Seconds of `wait=N`, at most MAX_WAIT_SECONDS; None where the header has none of 1 or more.

    A longer wait is held to that bound, which `Preference-Applied` then names. Other preferences
    are ignored, as the RFC demands.
    """
    found = _WAIT.search(prefer or "")
    if found is None:
        return None
    seconds = int(found[1])
    return min(seconds, MAX_WAIT_SECONDS) if seconds >= 1 else None
