"""A call of a network on the device: its main graph, and its prelude, at one shape."""

from collections.abc import Mapping

import numpy as np

from runtime.backends.device.device import Device
from runtime.backends.device.staging import Buffer
from runtime.backends.device.stream import Stream
from runtime.backends.onnxruntime.cuda_bound import BoundSession, Place
from runtime.backends.onnxruntime.elements import element_type
from runtime.backends.profiles import Shape
from runtime.package.manifest import RoleRecord


class OnnxCudaCall:
    """A network at one shape, in buffers of its own. For one thread at a time.

    The prelude writes its outputs where the main graph reads them, so that addresses stay, and a
    CUDA graph of the main graph with them. SDXL's prelude makes 26 MB for each evaluation of 77
    tokens: the keys and values of 70 attentions in fp16, and an embedding.
    """

    def __init__(
        self, device: Device, stream: Stream, main: BoundSession, prelude: BoundSession | None
    ) -> None:
        """Both graphs run on `stream`. Call `prepare` before any run."""
        self._cuda = device.cuda
        self._stream = stream
        self._main = main
        self._prelude = prelude
        self.inputs: dict[str, Buffer] = {}

    @property
    def outputs(self) -> Mapping[str, Buffer]:
        """The buffers that a run writes."""
        return self._main.outputs

    def prepare(self, record: RoleRecord, shapes: Mapping[str, Shape]) -> None:
        """Allocate and bind every buffer. Both graphs run on zeros."""
        places = {}
        for name, shape in shapes.items():
            dtype = np.dtype(record.inputs[name].dtype)
            memory = self._cuda.allocate(int(np.prod(shape)) * dtype.itemsize, "buffers")
            self.inputs[name] = Buffer(memory, shape, dtype)
            self._stream.zero(memory.address, memory.size_bytes)
            places[name] = Place(element_type(dtype), shape, memory.address)
        if self._prelude is not None:
            self._prelude.prepare(places)
            places |= self._prelude.made
        self._main.prepare(places)

    def condition(self) -> None:
        """Enqueue the prelude, where the network has one. Raises DeviceError."""
        if self._prelude is not None:
            self._prelude.run_plainly()

    def run(self) -> None:
        """Enqueue the main graph, as a CUDA graph where it could be captured and proven.

        Raises DeviceError.
        """
        self._main.run()

    def free(self) -> None:
        """Give the buffers back; nothing of the call may be running."""
        self._main.free()
        if self._prelude is not None:
            self._prelude.free()
        for buffer in self.inputs.values():
            self._cuda.free(buffer.memory)
