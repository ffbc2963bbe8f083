"""A GPU, and what all engines that run on it share."""

from collections.abc import Mapping

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.shortfalls import Shortfalls
from runtime.backends.device.staging import PinnedPool


class Device:
    """For the engines of one backend."""

    def __init__(self, cuda: Cuda) -> None:
        """Nothing is on it yet."""
        self.cuda = cuda
        self.pinned = PinnedPool(cuda)
        self.shortfalls = Shortfalls()

    def memory(self) -> Mapping[str, int]:
        """Bytes by what for; `free` and `total` whoever uses them. Raises DeviceError."""
        free, total = self.cuda.memory()
        return {**self.cuda.used, "free": free, "total": total}
