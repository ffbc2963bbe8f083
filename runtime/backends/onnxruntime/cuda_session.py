"""A graph open on the device by ONNX Runtime's CUDA provider: its session, and its calls by shape.

A session is opened as one whose runs can be captured, which the provider refuses where a network
goes back and forth between device and host. The calls capture their runs themselves.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.backends.device.calls import Calls
from runtime.backends.device.device import Device
from runtime.backends.device.replay import Graphs
from runtime.backends.device.stream import Stream
from runtime.backends.onnxruntime.cuda_call import OnnxCudaCall, Placed
from runtime.backends.onnxruntime.cuda_provider import Source, open_session, run
from runtime.backends.profiles import Shape
from runtime.errors import BackendError, DeviceError
from runtime.package.manifest import RoleRecord
from runtime.package.target import EngineIdentity

if TYPE_CHECKING:
    from onnxruntime import IOBinding

NOISE = 0.1 / 255
"""The mean difference that two runs of one graph may have, relative to the largest magnitude: group
norms add their sums atomically, in no fixed order."""


class OnnxCudaSession:
    """A compiled graph of a role on the device. For one thread at a time."""

    def __init__(
        self, device: Device, stream: Stream, role: str, record: RoleRecord, engine: EngineIdentity
    ) -> None:
        """Call `open` before anything else. `engine` is how the graph was compiled."""
        self.graphs = Graphs(device, stream, role, NOISE)
        self._engine = engine
        self._device = device
        self._stream = stream
        self._role = role
        self._record = record
        self._calls: Calls[OnnxCudaCall] = Calls(stream)
        self._unfinished: list[OnnxCudaCall] = []
        """The call that is being made, which `_calls` does not have yet."""
        self._placed: dict[str, Placed] = {}

    def open(self, path: Path, folder: Path) -> None:
        """Open the graph at `path`, whose weights lie in `folder`: they go onto the device.

        Raises BackendError, also where the provider was not taken.
        """
        self._source = Source(path.read_bytes(), path, folder)
        cuda = self._device.cuda
        before, _ = cuda.memory()
        self._open(captures=self._device.captures)
        self._size_bytes = max(0, before - cuda.memory()[0])
        cuda.account("weights", self._size_bytes)

    def free(self) -> None:
        """Give back the memory of the session and of all its calls, which end here."""
        self._calls.free()
        del self._session
        self._device.cuda.account("weights", -self._size_bytes)

    def call(self, shapes: Mapping[str, Shape], at: str) -> OnnxCudaCall:
        """The call at these shapes, made at the first use; `at` names the shapes, for people."""
        return self._calls.at(shapes, lambda: self._made(shapes, at))

    def bind(self, placed: Mapping[str, Placed]) -> None:
        """Bind initializers that are inputs to their values' addresses, in later calls too."""
        self._placed |= placed
        for call in self._calls:
            for name, each in placed.items():
                call.bind_weight(name, each)

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs."""
        return self._outputs

    def binding(self) -> "IOBinding":
        """A new IOBinding of the session, to which no buffer is bound yet."""
        return self._session.io_binding()

    def run(self, binding: "IOBinding", *, capturing: bool) -> None:
        """Enqueue a run, which waits for the device unless it is captured. Raises DeviceError."""
        try:
            run(self._session, binding, capturing=capturing)
        except Exception as error:
            raise DeviceError(f"{self._role}: ONNX Runtime failed: {_line(error)}") from error

    def follow_stream(self) -> None:
        """Open the session again where a capture on its stream could not be ended, so that another
        stream took its place.

        Raises DeviceError.
        """
        if self._opened_on != self._stream.address:
            self._device.shortfalls.add(
                f"{self._role} was opened again and runs without CUDA graphs, since a capture on "
                "its stream could not be ended"
            )
            self.open_again()

    def open_again(self) -> None:
        """Open the session again for plain runs alone; its calls keep their buffers.

        Raises DeviceError: a session that is gone and cannot be opened again is the end of its
        process.
        """
        self.graphs.give_up_all()
        calls = [*self._calls, *self._unfinished]
        for call in calls:
            call.release()
        del self._session
        try:
            self._open(captures=False)
        except BackendError as error:
            raise DeviceError(f"{self._role} cannot be opened again: {error}") from error
        for call in calls:
            call.rebind()

    def _open(self, *, captures: bool) -> None:
        source, address = self._source, self._stream.address
        try:
            self._session = open_session(source, self._engine, address, captures=captures)
        except BackendError:
            raise
        except Exception as error:
            if not captures:
                words = f"{source.path}: ONNX Runtime cannot open it: {_line(error)}"
                raise BackendError(words) from error
            refusal = _line(error)
        else:
            self._outputs = [output.name for output in self._session.get_outputs()]
            self._opened_on = address
            return
        self._open(captures=False)
        self.graphs.give_up_all()
        self._device.shortfalls.add(f"{self._role} runs without CUDA graphs: {refusal}")

    def _made(self, shapes: Mapping[str, Shape], at: str) -> OnnxCudaCall:
        made = OnnxCudaCall(self, self._device, at)
        self._unfinished.append(made)
        try:
            for name, placed in self._placed.items():
                made.bind_weight(name, placed)
            made.prepare(self._record, shapes)
        except DeviceError:
            raise
        except BackendError:
            made.free()
            raise
        finally:
            self._unfinished.remove(made)
        return made


def _line(error: Exception) -> str:
    """The vendor's message without its line breaks."""
    return " ".join(str(error).split())
