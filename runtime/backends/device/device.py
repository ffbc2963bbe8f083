"""A GPU, and what all engines that run on it share."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.shortfalls import Shortfalls
from runtime.backends.device.staging import PinnedPool


class Device:
    """For the engines of one backend."""

    def __init__(self, cuda: Cuda, *, captures: bool = True) -> None:
        """Nothing is on it yet. Without `captures`, no engine captures CUDA graphs."""
        self.cuda = cuda
        self.captures = captures
        self.pinned = PinnedPool(cuda)
        self.shortfalls = Shortfalls()
        self.spoilt = False
        """Whether a capture failed and no plain run of any engine has succeeded since."""
        self._tell_trial: Callable[[str], None] = lambda _: None

    def watch_trials(self, tell: Callable[[str], None]) -> None:
        """Let `tell` hear the role whose new CUDA graph is about to be launched for the first time,
        and an empty string when that launch went well: it may end the process.
        """
        self._tell_trial = tell

    @contextmanager
    def trial(self, role: str) -> Iterator[None]:
        """The first launch of a graph and the wait for its end. One that raises stays announced."""
        self._tell_trial(role)
        yield
        self._tell_trial("")

    def memory(self) -> Mapping[str, int]:
        """Bytes by what for; `free` and `total` whoever uses them. Raises DeviceError."""
        free, total = self.cuda.memory()
        return {**self.cuda.used, "free": free, "total": total}
