"""A data folder has one owner: a server, or a command that rewrites its database."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import CalotypeError

LOCK = "calotype.lock"


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Own the folder, which is there: two servers on one database would lease each other's jobs.

    Raises CalotypeError while another process owns it.
    """
    with (data / LOCK).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CalotypeError(
                f"{data}: another server uses this data folder; stop it, or give another --data"
            ) from None
        yield
