"""The `Prefer` header (RFC 7240): how long a caller would wait for the end of its job."""

import re

MAX_WAIT_SECONDS = 60

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,4})"?\s*(?=[,;]|$)', re.ASCII | re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """The seconds of `wait=N`, 1 to 60.

    Every other preference is passed over without a word, as the RFC demands; the answer's
    `Preference-Applied` tells the caller which were honoured.
    """
    found = _WAIT.search(prefer or "")
    if found is None:
        return None
    seconds = int(found[1])
    return seconds if 1 <= seconds <= MAX_WAIT_SECONDS else None
