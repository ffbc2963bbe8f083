"""A session of the CUDA provider at one shape, bound to buffers of our own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from runtime.backends.device.device import Device
from runtime.backends.device.replay import Graphs, Replay
from runtime.backends.device.staging import Buffer
from runtime.backends.onnxruntime.elements import NUMPY_TYPES
from runtime.backends.profiles import Shape

if TYPE_CHECKING:
    from onnxruntime import IOBinding


class Session(Protocol):
    """An open session, as the graphs that are bound to it use it."""

    graphs: Graphs

    @property
    def inputs(self) -> Collection[str]:
        """The names of the graph's inputs, without the weights that are inputs as well."""
        ...

    @property
    def outputs(self) -> Sequence[str]:
        """The names of the graph's outputs."""
        ...

    def binding(self) -> "IOBinding":
        """A new set of buffers, none of them bound."""
        ...

    def run(self, binding: "IOBinding", *, capturing: bool) -> None:
        """Enqueue a run. Raises DeviceError."""
        ...

    def follow_stream(self) -> None:
        """Open the session again when its stream was replaced. Raises DeviceError."""
        ...

    def open_again(self) -> None:
        """Open the session again for plain runs alone. Raises DeviceError."""
        ...

    def forget(self, bound: "BoundSession") -> None:
        """Let go of a graph that is bound to the session no more."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Values on the device that a graph reads or writes."""

    element: int
    """ONNX's number of their type."""
    shape: Shape
    address: int


class BoundSession:
    """A session at one shape. For one thread at a time."""

    def __init__(self, session: Session, device: Device, at: str) -> None:
        """Call `prepare` before any run. `at` names the shapes, for people."""
        self._session = session
        self._cuda = device.cuda
        self._binding: IOBinding = session.binding()
        self._replay = Replay(session.graphs, self, at)
        self._inputs: dict[str, Place] = {}
        self._weights: dict[str, Place] = {}
        self.outputs: dict[str, Buffer] = {}
        """The buffers that a run writes."""
        self.made: dict[str, Place] = {}
        """The places of the same values, as another graph reads them."""

    def prepare(self, inputs: Mapping[str, Place]) -> None:
        """Bind what the graph reads of `inputs`, and allocate and bind its outputs, whose shapes
        and types a run gives.
        """
        self._inputs = {name: inputs[name] for name in self._session.inputs}
        self._bind()
        self._replay.run_plainly()
        self._session.graphs.stream.synchronize()
        for name, made in zip(self._session.outputs, self._binding.get_outputs(), strict=True):
            element, shape = made.element_type(), tuple(made.shape())
            dtype = np.dtype(NUMPY_TYPES[element])
            size = int(np.prod(shape)) * dtype.itemsize
            buffer = Buffer(self._cuda.allocate(size, "buffers"), shape, dtype)
            self.outputs[name] = buffer
            self.made[name] = Place(element, shape, buffer.memory.address)
        self._bind()

    def bind_weight(self, name: str, place: Place) -> None:
        """Bind an initializer that is an input to the place of its values, which each run reads.

        A CUDA graph holds the former address, so the graph is captured anew.
        """
        self._replay.forget()
        self._weights[name] = place
        self._bind_input(name, place)

    def run(self) -> None:
        """Enqueue the graph: as a CUDA graph, where one could be captured and proven.

        Raises DeviceError.
        """
        self._replay.run()

    def run_plainly(self) -> None:
        """Enqueue the graph, never as a CUDA graph. Raises DeviceError."""
        self._replay.run_plainly()

    def free(self) -> None:
        """Give the outputs' buffers back; the graph must not be running."""
        self._replay.forget()
        self._session.forget(self)
        # Both refer to this graph and its session, which would not be released now otherwise.
        del self._replay, self._binding
        for buffer in self.outputs.values():
            self._cuda.free(buffer.memory)

    def enqueue(self, *, capturing: bool) -> None:
        """Put a plain run on the stream. Raises DeviceError."""
        self._session.follow_stream()
        self._session.run(self._binding, capturing=capturing)

    def open_anew(self) -> None:
        """Open the session again, for plain runs alone. Raises DeviceError."""
        self._session.open_again()

    def release(self) -> None:
        """Let go of the session, which is about to be opened again.

        A CUDA graph of this session reads and writes memory that goes with the session.
        """
        self._replay.forget()
        del self._binding

    def rebind(self) -> None:
        """Bind every buffer to the session that was opened in the place of the one before."""
        self._binding = self._session.binding()
        self._bind()

    def _bind(self) -> None:
        for name, place in (*self._inputs.items(), *self._weights.items()):
            self._bind_input(name, place)
        for name in self._session.outputs:
            self._bind_output(name, self.made.get(name))

    def _bind_input(self, name: str, place: Place) -> None:
        self._binding.bind_input(name, "cuda", 0, place.element, place.shape, place.address)

    def _bind_output(self, name: str, place: Place | None) -> None:
        if place is None:
            self._binding.bind_output(name, "cuda")
            return
        self._binding.bind_output(name, "cuda", 0, place.element, place.shape, place.address)
