"""A role's graphs that are open on the device, and their calls by shape."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.backends.device.calls import Calls
from runtime.backends.device.device import Device
from runtime.backends.device.stream import Stream
from runtime.backends.onnxruntime.cuda_bound import Place
from runtime.backends.onnxruntime.cuda_call import OnnxCudaCall
from runtime.backends.onnxruntime.cuda_session import OnnxCudaSession
from runtime.backends.profiles import Shape
from runtime.errors import BackendError, DeviceError
from runtime.package.manifest import RoleRecord
from runtime.package.target import EngineIdentity


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """The files that a network is opened from."""

    main: Path
    """The graph that a call runs."""
    prelude: Path | None
    """The graph that depends on the conditioning alone; None where there is no such graph."""
    weights: Path
    """The folder of the weights of both."""


class OnnxCudaNetwork:
    """The session of a role's main graph, and that of its prelude. For one thread at a time.

    The prelude runs once for a picture, plainly: a CUDA graph of it would not pay for its capture.
    """

    def __init__(
        self, device: Device, stream: Stream, role: str, record: RoleRecord, engine: EngineIdentity
    ) -> None:
        """Call `open` before anything else. `engine` is how the graphs were compiled."""
        self._device = device
        self._stream = stream
        self._role = role
        self._record = record
        self._engine = engine
        self._main = OnnxCudaSession(device, stream, role, engine, captures=device.captures)
        self._prelude: OnnxCudaSession | None = None
        self._calls: Calls[OnnxCudaCall] = Calls(stream)

    def open(self, files: NetworkFiles) -> None:
        """Open the graphs. Raises BackendError, also where the provider was not taken."""
        self._main.open(files.main, files.weights)
        if files.prelude is not None:
            try:
                self._prelude = self._opened(files.prelude, files.weights)
            except BackendError:
                self._main.free()
                raise

    def call(self, shapes: Mapping[str, Shape], at: str) -> OnnxCudaCall:
        """The call at these shapes, made at the first use; `at` names the shapes, for people."""
        return self._calls.at(shapes, lambda: self._made(shapes, at))

    def bind(self, placed: Mapping[str, Place]) -> None:
        """Bind initializers that are inputs to their values' places, in later calls too."""
        for session in self._sessions():
            session.bind(placed)

    def check_inputs(self, names: Collection[str]) -> None:
        """Raises BackendError for an initializer that is an input of no graph."""
        unknown = set(names).difference(*(session.weights for session in self._sessions()))
        if unknown:
            raise BackendError(
                f"{self._role}: {min(unknown)} cannot be replaced, since it is no input of the "
                "graphs that run with LoRAs; compile the target again"
            )

    def free(self) -> None:
        """Give back the memory of the sessions and of all calls, which end here."""
        self._calls.free()
        for session in self._sessions():
            session.free()

    def _opened(self, prelude: Path, weights: Path) -> OnnxCudaSession:
        title = f"{self._role}'s prelude"
        made = OnnxCudaSession(self._device, self._stream, title, self._engine, captures=False)
        made.open(prelude, weights)
        return made

    def _sessions(self) -> Iterator[OnnxCudaSession]:
        yield self._main
        if self._prelude is not None:
            yield self._prelude

    def _made(self, shapes: Mapping[str, Shape], at: str) -> OnnxCudaCall:
        prelude = None if self._prelude is None else self._prelude.bound(at)
        made = OnnxCudaCall(self._device, self._stream, self._main.bound(at), prelude)
        try:
            made.prepare(self._record, shapes)
        except DeviceError:
            raise
        except BackendError:
            made.free()
            raise
        return made
