"""A session of ONNX Runtime's CUDA provider on a stream of ours, and its calls at their shapes.

Everything is bound to our own buffers. A session is opened as one whose runs can be captured, which
it refuses where a network goes back and forth between device and host. We capture them ourselves:
the provider's own graphs wait for the device at every replay, are kept until the session ends, and
are captured in a mode that forbids other threads, such as that of previews, to allocate meanwhile.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cuda/cuda_graph.cc
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.backends.device.calls import Calls
from runtime.backends.device.cuda import Stream
from runtime.backends.device.device import Device
from runtime.backends.device.replay import Replay
from runtime.backends.device.staging import Buffer
from runtime.backends.onnxruntime.graph import ELEMENT_TYPES
from runtime.backends.profiles import Shape
from runtime.errors import BackendError, DeviceError
from runtime.manifest import RoleRecord
from runtime.target import TF32, EngineIdentity
from runtime.tensors import Tensor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

PROVIDER = "CUDAExecutionProvider"

_NO_GRAPH = "-1"
"""So the provider leaves a run alone that it could capture."""

# ONNX's numbers of the dtypes that our graphs give.
_NUMPY = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}


@dataclass(frozen=True, slots=True)
class Placed:
    """An initializer that is an input, and where its values lie on the device."""

    tensor: Tensor
    """Of its dtype and shape."""
    address: int


class OnnxCudaCall:
    """A session at one shape, bound to buffers of ours."""

    def __init__(
        self, session: "InferenceSession", device: Device, stream: Stream, role: str, *, graph: bool
    ) -> None:
        """`prepare` it next. Without `graph` nothing is captured."""
        self._session = session
        self._cuda = device.cuda
        self._stream = stream
        self._role = role
        self._binding: IOBinding = session.io_binding()
        self._replay = Replay(stream, self._enqueue, role, device.shortfalls) if graph else None
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
        self._enqueue()
        self._stream.synchronize()
        for name, made in zip(names, self._binding.get_outputs(), strict=True):
            dtype = np.dtype(_NUMPY[made.element_type()])
            self.outputs[name] = buffer = self._buffer(tuple(made.shape()), dtype)
            self._binding.bind_output(
                name, "cuda", 0, dtype.type, buffer.shape, buffer.memory.address
            )

    def bind_weight(self, name: str, placed: Placed) -> None:
        """Let an initializer that is an input have the values that lie there at each run.

        A graph knows nothing of a new address, and is captured anew.
        """
        if self._replay is not None:
            self._replay.forget()
        element = ELEMENT_TYPES[placed.tensor.dtype]
        self._bind_input(name, element, placed.tensor.values.shape, placed.address)

    def run(self) -> None:
        """Enqueue it: as a graph, from the second time on. Raises DeviceError."""
        if self._replay is None:
            self._enqueue()
        else:
            self._replay.run()

    def free(self) -> None:
        """Give its buffers back; nothing of it may be running."""
        if self._replay is not None:
            self._replay.forget()
            self._replay = None  # It knows this call, and both know the session.
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            self._cuda.free(buffer.memory)

    def _enqueue(self) -> None:
        import onnxruntime

        options = onnxruntime.RunOptions()
        # What comes behind it is on the same stream; the session would wait for the device, which
        # ends a capture. It waits where there is none: pinned memory that kernels read their tables
        # from is given back then alone, and every run would take more of it.
        waits = "0" if self._replay is None else "1"
        options.add_run_config_entry("disable_synchronize_execution_providers", waits)
        options.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
        try:
            self._session.run_with_iobinding(self._binding, options)
        except Exception as error:
            raise DeviceError(f"{self._role}: ONNX Runtime failed: {_line(error)}") from error

    def _bind_input(self, name: str, element: Any, shape: Shape, address: int) -> None:
        self._binding.bind_input(name, "cuda", 0, element, shape, address)

    def _buffer(self, shape: Shape, dtype: "np.dtype[Any]") -> Buffer:
        size = int(np.prod(shape)) * dtype.itemsize
        return Buffer(self._cuda.allocate(size, "buffers"), shape, dtype)


class OnnxCudaSession:
    """A graph on the device. For one thread at a time."""

    def __init__(
        self, device: Device, stream: Stream, role: str, record: RoleRecord, engine: EngineIdentity
    ) -> None:
        """`open` it next. `engine` is how its graph was compiled."""
        self._engine = engine
        self._device = device
        self._stream = stream
        self._role = role
        self._record = record
        self._calls: Calls[OnnxCudaCall] = Calls(stream)
        self._placed: dict[str, Placed] = {}
        self._capturable = True

    def open(self, model: bytes, path: Path, folder: Path) -> None:
        """Put the weights on the device: those of `model`, read from `path`, lie in `folder`.

        Raises BackendError, also where the provider was not taken.
        """
        cuda = self._device.cuda
        before, _ = cuda.memory()
        try:
            self._session = self._opened(model, folder)
        except Exception as refusal:
            self._capturable = False
            try:
                self._session = self._opened(model, folder)
            except Exception as error:
                words = f"{path}: ONNX Runtime cannot open it: {_line(error)}"
                raise BackendError(words) from error
            told = f"{self._role} runs without CUDA graphs: {_line(refusal)}"
            self._device.shortfalls.add(told)
        # Where the provider's libraries are missing, it takes the CPU, and says nothing.
        found = self._session.get_providers()
        if found[0] != PROVIDER:
            raise BackendError(
                f"{path}: ONNX Runtime took {', '.join(found)}, asked for {PROVIDER}; install "
                "onnxruntime-gpu and the CUDA libraries that it names in its log"
            )
        self._size_bytes = max(0, before - cuda.memory()[0])
        cuda.account("weights", self._size_bytes)

    def free(self) -> None:
        """Give its memory back, all its calls' included; it is not to be used any more."""
        self._calls.free()
        del self._session
        self._device.cuda.account("weights", -self._size_bytes)

    def call(self, shapes: Mapping[str, Shape]) -> OnnxCudaCall:
        """The call at these shapes, made at the first use."""
        return self._calls.at(shapes, lambda: self._made(shapes))

    def bind(self, placed: Mapping[str, Placed]) -> None:
        """Let initializers that are inputs have what lies there, whatever that is at a run."""
        self._placed |= placed
        for call in self._calls:
            for name, each in placed.items():
                call.bind_weight(name, each)

    def _made(self, shapes: Mapping[str, Shape]) -> OnnxCudaCall:
        made = OnnxCudaCall(
            self._session, self._device, self._stream, self._role, graph=self._capturable
        )
        for name, placed in self._placed.items():
            made.bind_weight(name, placed)
        made.prepare(self._record, shapes)
        return made

    def _opened(self, model: bytes, folder: Path) -> "InferenceSession":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # A compiled graph leaves its weights where the package has them.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
        # The session's arena grows to twice what it was whenever it is full, unless it is told not
        # to: with 24 GB of weights in it to 32, and then by 32 more for what lies between kernels.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        # One piece for all of that would be another one at each larger shape.
        options.enable_mem_pattern = False
        settings = {
            "user_compute_stream": str(self._stream.address),
            "enable_cuda_graph": str(int(self._capturable)),
            "arena_extend_strategy": "kSameAsRequested",
        }
        if self._engine.precision == "fp32" and TF32 not in self._engine.flags:
            # Of engines in 16 bits too it would take the tensor cores.
            settings["use_tf32"] = "0"
        # It would take the CPU where the provider cannot be had, with a line on standard output.
        return onnxruntime.InferenceSession(
            model, options, providers=[(PROVIDER, settings)], enable_fallback=0
        )


def _line(error: Exception) -> str:
    """The vendor's message without its line breaks."""
    return " ".join(str(error).split())
