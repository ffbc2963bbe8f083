"""A GPU, and what all engines that run on it share."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.module import Module
from runtime.backends.device.shortfalls import Shortfalls
from runtime.backends.device.staging import PinnedPool
from runtime.backends.protocol import TrialListener


class Device:
    """A GPU with the state that all engines of one backend share. Threads may share a Device."""

    def __init__(self, cuda: Cuda, *, captures: bool = True) -> None:
        """Nothing is on it yet. Without `captures`, no engine captures CUDA graphs."""
        self.cuda = cuda
        self.captures = captures
        self.pinned = PinnedPool(cuda)
        self.shortfalls = Shortfalls()
        self.trials: TrialListener | None = None
        self.left_free = 0
        """The bytes of the device that memory which can be done without leaves to all else."""
        self._spoilt: set[int] = set()
        self._modules: dict[Path, Module] = {}
        self._lock = threading.Lock()

    def module(self, path: Path) -> Module:
        """The kernels of a file of PTX, loaded at the first use and kept for all engines: one that
        is opened anew for each picture would load them each time. Raises DeviceError.
        """
        with self._lock:
            if path not in self._modules:
                self._modules[path] = Module(self.cuda, path.read_bytes())
            return self._modules[path]

    @property
    def spoilt(self) -> bool:
        """True on a thread whose capture failed, until a plain run of any engine succeeds on that
        thread: CUDA keeps errors for each thread.
        """
        return threading.get_ident() in self._spoilt

    @spoilt.setter
    def spoilt(self, value: bool) -> None:
        change = self._spoilt.add if value else self._spoilt.discard
        change(threading.get_ident())

    @contextmanager
    def trial(self, role: str) -> Iterator[None]:
        """Tell the trial listener of the block, a graph's first launch and the wait for its end."""
        if self.trials is None:
            yield
            return
        self.trials.begun(role)
        try:
            yield
        finally:
            self.trials.over(role)

    def memory(self) -> Mapping[str, int]:
        """Bytes by purpose; `free` and `total` are the whole device's. Raises DeviceError."""
        free, total = self.cuda.memory()
        return {**self.cuda.used, "free": free, "total": total}
