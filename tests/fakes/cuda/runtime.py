"""A vendor's own copy of CUDA's runtime."""

from tests.fakes.cuda.codes import FakeError
from tests.fakes.cuda.device import FakeDevice
from tests.fakes.cuda.errors import LastErrors
from tests.fakes.cuda.streams import Work


class FakeRuntime:
    """A vendor's own copy of CUDA's runtime: the same device, last errors of its own."""

    def __init__(self, cuda: FakeDevice) -> None:
        self._cuda = cuda
        self._errors = LastErrors()

    def malloc(self, size: int) -> tuple[FakeError, int]:
        """Device memory."""
        code, address = self._cuda.malloc(size)
        return self._errors.keep(code), address

    def launch(self, stream: int, work: Work) -> FakeError:
        """Put a kernel on a stream."""
        return self._errors.keep(self._cuda.enqueue(stream, work))

    def synchronize(self, stream: int) -> FakeError:
        """Wait for a stream."""
        return self._errors.keep(self._cuda.synchronize(stream))

    def last_error(self) -> FakeError:
        """The thread's last error, which is forgotten by that."""
        return self._errors.read()
