"""A call of a graph on the device: a session of the CUDA provider at one shape.

Inputs, outputs and replaced weights are bound to buffers of our own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from runtime.backends.device.device import Device
from runtime.backends.device.replay import Graphs, Replay
from runtime.backends.device.staging import Buffer
from runtime.backends.onnxruntime.elements import ELEMENT_TYPES, NUMPY_TYPES
from runtime.backends.profiles import Shape
from runtime.package.manifest import RoleRecord
from runtime.package.tensors import Tensor

if TYPE_CHECKING:
    from onnxruntime import IOBinding


class Session(Protocol):
    """An open session, as its calls use it."""

    graphs: Graphs

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


@dataclass(frozen=True, slots=True)
class Placed:
    """An initializer that is an input, and the address of its values on the device."""

    tensor: Tensor
    """A tensor with the initializer's dtype and shape; its values are not read."""
    address: int


class OnnxCudaCall:
    """A session at one shape, bound to buffers of ours. For one thread at a time."""

    def __init__(self, session: Session, device: Device, at: str) -> None:
        """Call `prepare` before any run. `at` names the shapes, for people."""
        self._session = session
        self._cuda = device.cuda
        self._stream = session.graphs.stream
        self._binding: IOBinding = session.binding()
        self._replay = Replay(session.graphs, self, at)
        self._weights: dict[str, Placed] = {}
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}

    def prepare(self, record: RoleRecord, shapes: Mapping[str, Shape]) -> None:
        """Allocate and bind every buffer; a run on zeros gives the outputs' shapes and dtypes."""
        for name, shape in shapes.items():
            self.inputs[name] = buffer = self._buffer(shape, np.dtype(record.inputs[name].dtype))
            self._stream.zero(buffer.memory.address, buffer.memory.size_bytes)
        self._bind()
        self._replay.run_plainly()
        self._stream.synchronize()
        for name, made in zip(self._session.outputs, self._binding.get_outputs(), strict=True):
            dtype = np.dtype(NUMPY_TYPES[made.element_type()])
            self.outputs[name] = self._buffer(tuple(made.shape()), dtype)
        self._bind()

    def bind_weight(self, name: str, placed: Placed) -> None:
        """Bind an initializer that is an input to the address of its values, which each run reads.

        A CUDA graph holds the former address, so the call is captured anew.
        """
        self._replay.forget()
        self._weights[name] = placed
        self._bind_weight(name, placed)

    def run(self) -> None:
        """Enqueue the call: as a CUDA graph, where one could be captured and proven.

        Raises DeviceError.
        """
        self._replay.run()

    def free(self) -> None:
        """Give the buffers back; nothing of the call may be running."""
        self._replay.forget()
        # Both refer to this call and its session, which would not be released now otherwise.
        del self._replay, self._binding
        for buffer in (*self.inputs.values(), *self.outputs.values()):
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

        A CUDA graph of this call reads and writes memory that goes with the session.
        """
        self._replay.forget()
        del self._binding

    def rebind(self) -> None:
        """Bind every buffer to the session that was opened in the place of the one before."""
        self._binding = self._session.binding()
        self._bind()

    def _bind(self) -> None:
        for name, buffer in self.inputs.items():
            self._bind_input(name, buffer.dtype.type, buffer.shape, buffer.memory.address)
        for name, placed in self._weights.items():
            self._bind_weight(name, placed)
        for name in self._session.outputs:
            self._bind_output(name, self.outputs.get(name))

    def _bind_output(self, name: str, buffer: Buffer | None) -> None:
        if buffer is None:
            self._binding.bind_output(name, "cuda")
            return
        element, address = buffer.dtype.type, buffer.memory.address
        self._binding.bind_output(name, "cuda", 0, element, buffer.shape, address)

    def _bind_weight(self, name: str, placed: Placed) -> None:
        element = ELEMENT_TYPES[placed.tensor.dtype]
        self._bind_input(name, element, placed.tensor.values.shape, placed.address)

    def _bind_input(self, name: str, element: Any, shape: Shape, address: int) -> None:
        self._binding.bind_input(name, "cuda", 0, element, shape, address)

    def _buffer(self, shape: Shape, dtype: "np.dtype[Any]") -> Buffer:
        size = int(np.prod(shape)) * dtype.itemsize
        return Buffer(self._cuda.allocate(size, "buffers"), shape, dtype)
