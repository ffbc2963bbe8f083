"""A graph open on the device by ONNX Runtime's CUDA provider: its session, bound at many shapes.

A session is opened as one whose runs can be captured, which the provider refuses where a network
goes back and forth between device and host. The graphs bound to it capture their runs themselves.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.backends.device.device import Device
from runtime.backends.device.replay import Graphs
from runtime.backends.device.stream import Stream
from runtime.backends.onnxruntime.cuda_bound import BoundSession, Place
from runtime.backends.onnxruntime.cuda_provider import Source, open_session, run
from runtime.errors import BackendError, DeviceError, in_one_line, lacks_memory
from runtime.package.target import EngineIdentity

if TYPE_CHECKING:
    from onnxruntime import IOBinding

NOISE = 0.1 / 255
"""The mean difference that two runs of one graph may have, relative to the largest magnitude: group
norms add their sums atomically, in no fixed order."""


class OnnxCudaSession:
    """A compiled graph of a role on the device. For one thread at a time."""

    def __init__(
        self, device: Device, stream: Stream, title: str, engine: EngineIdentity, *, captures: bool
    ) -> None:
        """Call `open` before anything else. `title` names the graph, for people; `engine` is how
        the graph was compiled; without `captures` the session is for plain runs alone.
        """
        self.graphs = Graphs(device, stream, title, NOISE)
        self._engine = engine
        self._device = device
        self._stream = stream
        self._title = title
        self._captures = captures
        self._bound: list[BoundSession] = []
        self._placed: dict[str, Place] = {}

    def open(self, path: Path, folder: Path) -> None:
        """Open the graph at `path`, whose weights lie in `folder`: they go onto the device.

        Raises BackendError, also where the provider was not taken.
        """
        self._source = Source(path.read_bytes(), path, folder)
        cuda = self._device.cuda
        before = cuda.unaccounted()
        self._open(captures=self._captures)
        self._size_bytes = max(0, cuda.unaccounted() - before)
        cuda.account("weights", self._size_bytes)

    def free(self) -> None:
        """Give back the memory of the session, to which no graph may be bound any more."""
        del self._session
        self._device.cuda.account("weights", -self._size_bytes)

    def bound(self, at: str) -> BoundSession:
        """A new graph bound to the session, which is not prepared; `at` names its shapes."""
        made = BoundSession(self, self._device, at)
        self._bound.append(made)
        for name, place in self._placed.items():
            made.bind_weight(name, place)
        return made

    def forget(self, bound: BoundSession) -> None:
        """Let go of a graph that is bound to the session no more."""
        self._bound.remove(bound)

    @property
    def weights(self) -> Collection[str]:
        """The names of the initializers that are inputs of the graph."""
        return {each.name for each in self._session.get_overridable_initializers()}

    def bind(self, placed: Mapping[str, Place]) -> None:
        """Bind initializers that are inputs of this graph to their values' places, in graphs that
        are bound later too; the others are left out.
        """
        weights = self.weights
        own = {name: place for name, place in placed.items() if name in weights}
        self._placed |= own
        for bound in self._bound:
            for name, place in own.items():
                bound.bind_weight(name, place)

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the graph's inputs, without the weights that are inputs as well."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[str]:
        """The names of the graph's outputs."""
        return self._outputs

    def binding(self) -> "IOBinding":
        """A new IOBinding of the session, to which no buffer is bound yet."""
        return self._session.io_binding()

    def run(self, binding: "IOBinding", *, capturing: bool) -> None:
        """Enqueue a run, which waits for the device unless it is captured. Raises DeviceError.

        A plain run that lacks memory is tried once more where some could be given back. Where none
        could, it is a BackendError: the device is whole, and a smaller run may have room.
        """
        seen = self._device.cuda.releases
        try:
            run(self._session, binding, capturing=capturing)
        except Exception as error:
            if not capturing and self._made_room(error, seen):
                self.run(binding, capturing=False)
                return
            words = f"{self._title}: ONNX Runtime failed: {in_one_line(error)}"
            if not capturing and lacks_memory(words) and self._device_answers():
                raise BackendError(words) from error
            raise DeviceError(words) from error

    def follow_stream(self) -> None:
        """Open the session again where a capture on its stream could not be ended, so that another
        stream took its place.

        Raises DeviceError.
        """
        if self._opened_on != self._stream.address:
            self._device.shortfalls.add(
                f"{self._title} was opened again and runs without CUDA graphs, since a capture on "
                "its stream could not be ended"
            )
            self.open_again()

    def open_again(self) -> None:
        """Open the session again for plain runs alone; the graphs bound to it keep their buffers.

        Raises DeviceError: a session that is gone and cannot be opened again is the end of its
        process.
        """
        self.graphs.give_up_all()
        for bound in self._bound:
            bound.release()
        del self._session
        try:
            self._open(captures=False)
        except BackendError as error:
            raise DeviceError(f"{self._title} cannot be opened again: {error}") from error
        for bound in self._bound:
            bound.rebind()

    def _open(self, *, captures: bool) -> None:
        source, address = self._source, self._stream.address
        seen = self._device.cuda.releases
        try:
            self._session = open_session(source, self._engine, address, captures=captures)
        except BackendError:
            raise
        except Exception as error:
            # The next kernel, of whichever engine on this thread, would take the error for its own.
            self._device.cuda.forget_errors()
            if self._made_room(error, seen):
                self._open(captures=captures)
                return
            if not captures:
                words = f"{source.path}: ONNX Runtime cannot open it: {in_one_line(error)}"
                raise BackendError(words) from error
            refusal = in_one_line(error)
        else:
            self._inputs = [each.name for each in self._session.get_inputs()]
            self._outputs = [output.name for output in self._session.get_outputs()]
            self._opened_on = address
            return
        self._open(captures=False)
        self.graphs.give_up_all()
        self._device.shortfalls.add(f"{self._title} runs without CUDA graphs: {refusal}")

    def _device_answers(self) -> bool:
        try:
            self._stream.synchronize()
        except DeviceError:
            return False
        return True

    def _made_room(self, error: Exception, seen: int) -> bool:
        """True where the failure is a lack of memory, and some was given back since there were
        `seen` releases.
        """
        if not lacks_memory(in_one_line(error)):
            return False
        # The next kernel would take the error for its own.
        self._device.cuda.forget_errors()
        return self._device.cuda.release_spare(seen)
