"""The last errors of threads, as each copy of the runtime keeps them."""

import threading

from tests.fakes.cuda.codes import FakeError


class LastErrors:
    """The last error of each thread, in one copy of the runtime."""

    def __init__(self) -> None:
        self._kept: dict[int, FakeError] = {}

    def keep(self, code: FakeError) -> FakeError:
        """The code, which stays the thread's last error if it is one."""
        if code is not FakeError.cudaSuccess:
            self._kept[threading.get_ident()] = code
        return code

    def read(self) -> FakeError:
        """The thread's last error, which is forgotten by that."""
        return self._kept.pop(threading.get_ident(), FakeError.cudaSuccess)
