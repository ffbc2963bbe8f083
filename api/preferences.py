"""`Prefer` header (RFC 7240): the time that a caller waits for the end of its job."""

import re

MAX_WAIT_SECONDS = 60

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,4})"?\s*(?=[,;]|$)', re.ASCII | re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """Seconds of `wait=N`, 1 to MAX_WAIT_SECONDS; None where the header has no such wait.

    Other preferences are ignored, as the RFC demands: the answer's `Preference-Applied` names the
    one that was honoured.
    """
    found = _WAIT.search(prefer or "")
    if found is None:
        return None
    seconds = int(found[1])
    return seconds if 1 <= seconds <= MAX_WAIT_SECONDS else None
