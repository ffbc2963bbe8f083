"""A session of ONNX Runtime's CUDA provider on a stream of ours, and its calls at their shapes.

Everything is bound to our own buffers. The provider captures a CUDA graph for each shape where it
can: it refuses to for graphs that go back and forth between device and host. A captured graph fixes
its addresses, and the provider keeps it as long as the session lives.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.backends.device.cuda import Cuda, Stream
from runtime.backends.device.shortfalls import Shortfalls
from runtime.backends.device.staging import Buffer, PinnedPool
from runtime.backends.onnxruntime.graph import ELEMENT_TYPES
from runtime.backends.profiles import Shape
from runtime.errors import BackendError, DeviceError
from runtime.manifest import RoleRecord
from runtime.tensors import Tensor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

PROVIDER = "CUDAExecutionProvider"

NO_GRAPH = -1
"""As the provider has it."""

_CALLS = 16
"""Shapes of a session that are kept ready."""

_GRAPHS = 64
"""Graphs that a session may keep, since none is ever given back; what comes later runs without."""

# ONNX's numbers of the dtypes that our graphs give.
_NUMPY = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}


@dataclass(frozen=True, slots=True)
class Device:
    """What all sessions of a backend share."""

    cuda: Cuda
    pinned: PinnedPool
    shortfalls: Shortfalls = field(default_factory=Shortfalls)


@dataclass(frozen=True, slots=True)
class Placed:
    """An initializer that is an input, and where its values lie on the device."""

    tensor: Tensor
    """Of its dtype and shape."""
    address: int


class OnnxCudaCall:
    """A session at one shape, bound to buffers of ours."""

    def __init__(self, session: "InferenceSession", cuda: Cuda, stream: Stream, role: str) -> None:
        """`prepare` it next."""
        self._session = session
        self._cuda = cuda
        self._stream = stream
        self._role = role
        self._binding: IOBinding = session.io_binding()
        self.graph = NO_GRAPH
        """The number of its graph, which is captured when it runs for the first time."""
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}

    def prepare(self, record: RoleRecord, shapes: Mapping[str, Shape]) -> None:
        """Allocate and bind every buffer. A run on zeros says what the outputs are."""
        for name, shape in shapes.items():
            self.inputs[name] = buffer = self._buffer(shape, np.dtype(record.inputs[name].dtype))
            self._stream.zero(buffer.memory.address, buffer.memory.size_bytes)
            self._bind_input(name, buffer.dtype.type, shape, buffer.memory.address)
        names = [output.name for output in self._session.get_outputs()]
        for name in names:
            self._binding.bind_output(name, "cuda")
        self.run()
        self._stream.synchronize()
        for name, made in zip(names, self._binding.get_outputs(), strict=True):
            dtype = np.dtype(_NUMPY[made.element_type()])
            self.outputs[name] = buffer = self._buffer(tuple(made.shape()), dtype)
            self._binding.bind_output(
                name, "cuda", 0, dtype.type, buffer.shape, buffer.memory.address
            )

    def bind_weight(self, name: str, placed: Placed) -> None:
        """Let an initializer that is an input have the values that lie there at each run."""
        element = ELEMENT_TYPES[placed.tensor.dtype]
        self._bind_input(name, element, placed.tensor.values.shape, placed.address)

    def run(self) -> None:
        """Enqueue it. Raises DeviceError."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        # What comes behind it is on the same stream; the session would wait for the device.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        options.add_run_config_entry("gpu_graph_id", str(self.graph))
        try:
            self._session.run_with_iobinding(self._binding, options)
        except Exception as error:
            raise DeviceError(f"{self._role}: ONNX Runtime failed: {_line(error)}") from error

    def free(self) -> None:
        """Give its buffers back; nothing of it may be running."""
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            self._cuda.free(buffer.memory)

    def _bind_input(self, name: str, element: Any, shape: Shape, address: int) -> None:
        self._binding.bind_input(name, "cuda", 0, element, shape, address)

    def _buffer(self, shape: Shape, dtype: "np.dtype[Any]") -> Buffer:
        size = int(np.prod(shape)) * dtype.itemsize
        return Buffer(self._cuda.allocate(size, "buffers"), shape, dtype)


class OnnxCudaSession:
    """A graph on the device. For one thread at a time."""

    def __init__(self, device: Device, stream: Stream, role: str, record: RoleRecord) -> None:
        """`open` it next."""
        self._cuda = device.cuda
        self._shortfalls = device.shortfalls
        self._stream = stream
        self._role = role
        self._record = record
        self._calls: OrderedDict[tuple[tuple[str, Shape], ...], OnnxCudaCall] = OrderedDict()
        self._placed: dict[str, Placed] = {}
        self._captures = False
        self._graphs = count(1)

    def open(self, model: bytes, path: Path, folder: Path) -> None:
        """Put the weights on the device: those of `model`, read from `path`, lie in `folder`.

        Raises BackendError, also where the provider was not taken.
        """
        before, _ = self._cuda.memory()
        try:
            self._session = self._opened(model, folder, captures=True)
            self._captures = True
        except Exception as refusal:
            try:
                self._session = self._opened(model, folder, captures=False)
            except Exception as error:
                words = f"{path}: ONNX Runtime cannot open it: {_line(error)}"
                raise BackendError(words) from error
            self._shortfalls.add(f"{self._role} runs without CUDA graphs: {_line(refusal)}")
        # Where the provider's libraries are missing, it takes the CPU, and says nothing.
        found = self._session.get_providers()
        if found[0] != PROVIDER:
            raise BackendError(
                f"{path}: ONNX Runtime took {', '.join(found)}, asked for {PROVIDER}; install "
                "onnxruntime-gpu and the CUDA libraries that it names in its log"
            )
        self._cuda.account("weights", max(0, before - self._cuda.memory()[0]))

    def call(self, shapes: Mapping[str, Shape]) -> OnnxCudaCall:
        """The call at these shapes, made at the first use."""
        key = tuple(sorted(shapes.items()))
        found = self._calls.get(key)
        if found is not None:
            self._calls.move_to_end(key)
            return found
        if len(self._calls) == _CALLS:
            self._stream.synchronize()
            self._calls.popitem(last=False)[1].free()
        made = OnnxCudaCall(self._session, self._cuda, self._stream, self._role)
        for name, placed in self._placed.items():
            made.bind_weight(name, placed)
        made.prepare(self._record, shapes)
        made.graph = self._next_graph()
        self._calls[key] = made
        return made

    def bind(self, placed: Mapping[str, Placed]) -> None:
        """Let initializers that are inputs have what lies there, whatever that is at a run.

        Graphs know nothing of new addresses, and are captured anew.
        """
        self._placed |= placed
        for call in self._calls.values():
            for name, each in placed.items():
                call.bind_weight(name, each)
            call.graph = self._next_graph()

    def _opened(self, model: bytes, folder: Path, *, captures: bool) -> "InferenceSession":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # A compiled graph leaves its weights where the package has them.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
        settings = {
            "user_compute_stream": str(self._stream.address),
            "enable_cuda_graph": str(int(captures)),
        }
        return onnxruntime.InferenceSession(model, options, providers=[(PROVIDER, settings)])

    def _next_graph(self) -> int:
        if not self._captures:
            return NO_GRAPH
        number = next(self._graphs)
        if number <= _GRAPHS:
            return number
        self._shortfalls.add(f"{self._role} has {_GRAPHS} CUDA graphs, and runs new ones without")
        return NO_GRAPH


def _line(error: Exception) -> str:
    """The vendor's message without its line breaks."""
    return " ".join(str(error).split())
