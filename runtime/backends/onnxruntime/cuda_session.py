"""A session of ONNX Runtime's CUDA provider on a stream of ours, and its calls at their shapes.

Everything is bound to our own buffers. A session is opened as one whose runs can be captured, which
it refuses where a network goes back and forth between device and host. We capture them ourselves:
the provider's own graphs are kept until the session ends, are captured in a mode that forbids other
threads, such as that of previews, to allocate meanwhile, and are launched unproven.
While a stream captures, whoever began that, kernels keep the pinned tables that they copy to the
device (since 1.31); otherwise a run gives these back at its end, when it waits for the device.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cuda/cuda_graph.cc
https://github.com/microsoft/onnxruntime/pull/32121
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.backends.device.calls import Calls
from runtime.backends.device.device import Device
from runtime.backends.device.replay import Graphs, Replay
from runtime.backends.device.staging import Buffer
from runtime.backends.device.stream import Stream
from runtime.backends.onnxruntime.graph import ELEMENT_TYPES
from runtime.backends.profiles import Shape
from runtime.errors import BackendError, DeviceError
from runtime.package.manifest import RoleRecord
from runtime.package.target import TF32, EngineIdentity
from runtime.package.tensors import Tensor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

PROVIDER = "CUDAExecutionProvider"

_NO_GRAPH = "-1"
"""So the provider leaves a run alone that it could capture."""

NOISE = 0.1 / 255
"""Two runs of one graph may differ by that on average, relative to the largest magnitude: the sums
of its group norms are atomic, and added in no fixed order."""

# ONNX's numbers of the dtypes that our graphs give.
_NUMPY = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}


@dataclass(frozen=True, slots=True)
class Placed:
    """An initializer that is an input, and where its values lie on the device."""

    tensor: Tensor
    """Of its dtype and shape."""
    address: int


@dataclass(frozen=True, slots=True)
class _Source:
    """What a session is opened from."""

    model: bytes
    path: Path
    """Where the model was read."""
    folder: Path
    """Where its weights lie."""


class OnnxCudaCall:
    """A session at one shape, bound to buffers of ours."""

    def __init__(self, session: "OnnxCudaSession", device: Device, at: str) -> None:
        """`prepare` it next; `at` names its shapes."""
        self._session = session
        self._cuda = device.cuda
        self._stream = session.graphs.stream
        self._binding: IOBinding = session.binding()
        self._replay = Replay(session.graphs, self, at)
        self._weights: dict[str, Placed] = {}
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}

    def prepare(self, record: RoleRecord, shapes: Mapping[str, Shape]) -> None:
        """Allocate and bind every buffer. A run on zeros says what the outputs are."""
        for name, shape in shapes.items():
            self.inputs[name] = buffer = self._buffer(shape, np.dtype(record.inputs[name].dtype))
            self._stream.zero(buffer.memory.address, buffer.memory.size_bytes)
        self._bind()
        self._replay.run_plainly()
        self._stream.synchronize()
        for name, made in zip(self._session.outputs, self._binding.get_outputs(), strict=True):
            dtype = np.dtype(_NUMPY[made.element_type()])
            self.outputs[name] = self._buffer(tuple(made.shape()), dtype)
        self._bind()

    def bind_weight(self, name: str, placed: Placed) -> None:
        """Let an initializer that is an input have the values that lie there at each run.

        A graph knows nothing of a new address, and is captured anew.
        """
        self._replay.forget()
        self._weights[name] = placed
        self._bind_weight(name, placed)

    def run(self) -> None:
        """Enqueue it: as a graph, where one could be captured and proven. Raises DeviceError."""
        self._replay.run()

    def free(self) -> None:
        """Give its buffers back; nothing of it may be running."""
        self._replay.forget()
        del self._replay, self._binding  # They know this call and the session, which is to go now.
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            self._cuda.free(buffer.memory)

    def enqueue(self, *, capturing: bool) -> None:
        """Put it on its stream. Raises DeviceError."""
        self._session.follow_stream()
        self._session.run(self._binding, capturing=capturing)

    def open_anew(self) -> None:
        """Open its session again, for plain runs alone. Raises DeviceError."""
        self._session.open_again()

    def release(self) -> None:
        """Let go of the session, which is about to be opened again.

        A graph of this call reads and writes memory that goes with the session.
        """
        self._replay.forget()
        del self._binding

    def rebind(self) -> None:
        """Bind everything to the session that was opened in the place of the one before."""
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


class OnnxCudaSession:
    """A graph on the device. For one thread at a time."""

    def __init__(
        self, device: Device, stream: Stream, role: str, record: RoleRecord, engine: EngineIdentity
    ) -> None:
        """`open` it next. `engine` is how its graph was compiled."""
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

    def open(self, model: bytes, path: Path, folder: Path) -> None:
        """Put the weights on the device: those of `model`, read from `path`, lie in `folder`.

        Raises BackendError, also where the provider was not taken.
        """
        self._source = _Source(model, path, folder)
        cuda = self._device.cuda
        before, _ = cuda.memory()
        self._open(captures=self._device.captures)
        self._size_bytes = max(0, before - cuda.memory()[0])
        cuda.account("weights", self._size_bytes)

    def free(self) -> None:
        """Give its memory back, all its calls' included; it is not to be used any more."""
        self._calls.free()
        del self._session
        self._device.cuda.account("weights", -self._size_bytes)

    def call(self, shapes: Mapping[str, Shape], at: str) -> OnnxCudaCall:
        """The call at these shapes, made at the first use; `at` names them."""
        return self._calls.at(shapes, lambda: self._made(shapes, at))

    def bind(self, placed: Mapping[str, Placed]) -> None:
        """Let initializers that are inputs have what lies there, whatever that is at a run."""
        self._placed |= placed
        for call in self._calls:
            for name, each in placed.items():
                call.bind_weight(name, each)

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs."""
        return self._outputs

    def binding(self) -> "IOBinding":
        """A new set of buffers, none of them bound."""
        return self._session.io_binding()

    def run(self, binding: "IOBinding", *, capturing: bool) -> None:
        """Enqueue a run. Raises DeviceError.

        While nothing is captured it waits for the device at its end: pinned memory that kernels
        read their tables from is given back then alone, and every run would take more of it.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        entry = "disable_synchronize_execution_providers"
        options.add_run_config_entry(entry, str(int(capturing)))
        options.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:
            raise DeviceError(f"{self._role}: ONNX Runtime failed: {_line(error)}") from error

    def follow_stream(self) -> None:
        """Open it again where its stream is another one since a capture could not be ended.

        Raises DeviceError.
        """
        if self._opened_on != self._stream.address:
            self._device.shortfalls.add(
                f"{self._role} was opened again and runs without CUDA graphs, since a capture on "
                "its stream could not be ended"
            )
            self.open_again()

    def open_again(self) -> None:
        """Open it anew for plain runs alone, its calls at the same buffers. Raises DeviceError: a
        session that is gone and cannot be had again is the end of its process.
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
        try:
            self._session = self._opened(self._source, captures=captures)
        except Exception as error:
            if not captures:
                words = f"{self._source.path}: ONNX Runtime cannot open it: {_line(error)}"
                raise BackendError(words) from error
            refusal = _line(error)
        else:
            self._check_provider()
            self._outputs = [output.name for output in self._session.get_outputs()]
            self._opened_on = self._stream.address
            return
        self._open(captures=False)
        self.graphs.give_up_all()
        self._device.shortfalls.add(f"{self._role} runs without CUDA graphs: {refusal}")

    def _check_provider(self) -> None:
        # Where the provider's libraries are missing, it takes the CPU, and says nothing.
        found = self._session.get_providers()
        if found[0] != PROVIDER:
            raise BackendError(
                f"{self._source.path}: ONNX Runtime took {', '.join(found)}, asked for {PROVIDER}; "
                "install onnxruntime-gpu and the CUDA libraries that it names in its log"
            )

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

    def _opened(self, source: _Source, *, captures: bool) -> "InferenceSession":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # A compiled graph leaves its weights where the package has them.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(source.folder)
        )
        # The session's arena grows to twice what it was whenever it is full, unless it is told not
        # to: with 24 GB of weights in it to 32, and then by 32 more for what lies between kernels.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        # One piece for all of that would be another one at each larger shape.
        options.enable_mem_pattern = False
        settings = {
            "user_compute_stream": str(self._stream.address),
            "enable_cuda_graph": str(int(captures)),
            "arena_extend_strategy": "kSameAsRequested",
        }
        if self._engine.precision == "fp32" and TF32 not in self._engine.flags:
            # Of engines in 16 bits too it would take the tensor cores.
            settings["use_tf32"] = "0"
        # It would take the CPU where the provider cannot be had, with a line on standard output.
        return onnxruntime.InferenceSession(
            source.model, options, providers=[(PROVIDER, settings)], enable_fallback=0
        )


def _line(error: Exception) -> str:
    """The vendor's message without its line breaks."""
    return " ".join(str(error).split())
