"""ONNX Runtime's CUDA provider: runs a target's optimised graphs with all state on the device.

Everything is bound to our own buffers and enqueued on our own streams. The provider's own CUDA
graphs are not used: a captured session takes one shape, and no inputs that come and go.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.backends.cuda import Cuda, DeviceMemory, Stream
from runtime.backends.device_denoiser import DeviceDenoiser
from runtime.backends.device_engine import HostArrayEngine
from runtime.backends.onnx_graph import ELEMENT_TYPES, with_inputs
from runtime.backends.profiles import Profiles, Shape
from runtime.backends.protocol import Denoiser
from runtime.backends.staging import Buffer, PinnedPool, Uploads
from runtime.errors import BackendError, DeviceError
from runtime.manifest import BATCH, ModelPackage, RoleRecord
from runtime.target import Target
from runtime.tensors import Tensor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

PROVIDER = "CUDAExecutionProvider"

_CALLS = 16
"""Shapes of a session that are kept ready."""


class OnnxCudaCall:
    """A session at one shape, bound to buffers of ours."""

    def __init__(self, session: "InferenceSession", cuda: Cuda, stream: Stream, role: str) -> None:
        """`prepare` it next."""
        self._session = session
        self._cuda = cuda
        self._stream = stream
        self._role = role
        self._binding: IOBinding = session.io_binding()
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
            found = made.element_type()
            dtype = np.dtype(_NUMPY[found])
            self.outputs[name] = buffer = self._buffer(tuple(made.shape()), dtype)
            self._binding.bind_output(
                name, "cuda", 0, dtype.type, buffer.shape, buffer.memory.address
            )

    def bind_weight(self, name: str, tensor: Tensor, memory: DeviceMemory) -> None:
        """Let an initializer that is an input have these values."""
        element = ELEMENT_TYPES[tensor.dtype]
        self._bind_input(name, element, tensor.values.shape, memory.address)

    def run(self) -> None:
        """Enqueue it. Raises DeviceError."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        # What comes behind it is on the same stream; the session would wait for the device.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        try:
            self._session.run_with_iobinding(self._binding, options)
        except Exception as error:
            line = " ".join(str(error).split())
            raise DeviceError(f"{self._role}: ONNX Runtime failed: {line}") from error

    def free(self) -> None:
        """Give its buffers back; nothing of it may be running."""
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            self._cuda.free(buffer.memory)

    def _bind_input(self, name: str, element: Any, shape: Shape, address: int) -> None:
        self._binding.bind_input(name, "cuda", 0, element, shape, address)

    def _buffer(self, shape: Shape, dtype: "np.dtype[Any]") -> Buffer:
        size = int(np.prod(shape)) * dtype.itemsize
        return Buffer(self._cuda.allocate(size, "buffers"), shape, dtype)


class OnnxCudaEngine:
    """A role's graph on the device.

    While weights are replaced, a second session runs it, whose matrices are inputs.
    """

    def __init__(
        self, package: ModelPackage, target: Target, role: str, cuda: Cuda, pinned: PinnedPool
    ) -> None:
        """Open it. Raises BackendError, also where the provider was not taken."""
        self.stream = cuda.stream(urgent=not role.endswith("decoder"))
        self.pinned = pinned
        self._package = package
        self._target = target
        self._role = role
        self._cuda = cuda
        self._record = package.manifest.roles[role]
        identity = target.record.identity.engines[role]
        scale = package.manifest.latents.scale_factor
        self._profiles = Profiles(role, self._record.inputs, identity.profiles, scale)
        self._session = self._open(replaceable=False)
        self._adaptable: InferenceSession | None = None
        self._weights: dict[str, tuple[Tensor, DeviceMemory]] = {}
        self._uploads = Uploads(pinned, self.stream)
        self._calls: OrderedDict[tuple[tuple[str, Shape], ...], OnnxCudaCall] = OrderedDict()

    @property
    def largest_batch(self) -> int | None:
        """The largest batch that its target was verified at."""
        return self._profiles.largest(BATCH)

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Raises BackendError for shapes that its target was not verified at."""
        self._profiles.index(
            shapes,
            f"compile one that does, with --sizes (this is of: {self._target.record.command})",
        )

    def call(self, shapes: Mapping[str, Shape]) -> OnnxCudaCall:
        """The call at these shapes. Raises BackendError."""
        key = tuple(sorted(shapes.items()))
        found = self._calls.get(key)
        if found is not None:
            self._calls.move_to_end(key)
            return found
        self.check(shapes)
        if len(self._calls) == _CALLS:
            self.stream.synchronize()
            self._calls.popitem(last=False)[1].free()
        session = self._adaptable if self._weights and self._adaptable else self._session
        made = OnnxCudaCall(session, self._cuda, self.stream, self._role)
        for name, (tensor, memory) in self._weights.items():
            made.bind_weight(name, tensor, memory)
        made.prepare(self._record, shapes)
        self._calls[key] = made
        return made

    def replace_weights(self, weights: Mapping[str, Tensor]) -> None:
        """As of an Engine. Waits for the device; calls are made anew, over the other session."""
        self.stream.synchronize()
        for call in self._calls.values():
            call.free()
        self._calls.clear()
        for _, memory in self._weights.values():
            self._cuda.free(memory)
        self._weights = {}
        for name, tensor in weights.items():
            memory = self._cuda.allocate(tensor.values.nbytes, "LoRA weights")
            self._uploads.put(tensor.values, memory.address)
            self._weights[name] = tensor, memory
        self._uploads.end_round()
        if weights and self._adaptable is None:
            self._adaptable = self._open(replaceable=True)

    def _open(self, *, replaceable: bool) -> "InferenceSession":
        import onnxruntime

        path = self._target.engine(self._role)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        folder = self._record.external_folder or str(self._package.path.resolve())
        # A compiled graph leaves its weights where the package has them.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", folder
        )
        model = path.read_bytes()
        if replaceable:
            matrices = [each for each in self._record.parameters.values() if each.replaceable]
            model = with_inputs(model, matrices)
        provider = (PROVIDER, {"user_compute_stream": str(self.stream.address)})
        before, _ = self._cuda.memory()
        try:
            session = onnxruntime.InferenceSession(model, options, providers=[provider])
        except Exception as error:
            line = " ".join(str(error).split())
            raise BackendError(f"{path}: ONNX Runtime cannot open it: {line}") from error
        # Where the provider's libraries are missing, it takes the CPU, and says nothing.
        if session.get_providers()[0] != PROVIDER:
            found = ", ".join(session.get_providers())
            raise BackendError(
                f"{path}: ONNX Runtime took {found}, asked for {PROVIDER}; install "
                "onnxruntime-gpu and the CUDA libraries that it names in its log"
            )
        self._cuda.account("weights", max(0, before - self._cuda.memory()[0]))
        return session


class OnnxRuntimeCuda:
    """The backend `onnxruntime-cuda`."""

    name = "onnxruntime-cuda"

    def __init__(self, package: ModelPackage, target: Target, cuda: Cuda, device: str) -> None:
        """Nothing is opened yet. Raises BackendError where the weights do not fit."""
        manifest = package.manifest
        owned = {role: record.weights for role, record in manifest.roles.items()}
        cuda.check_room(
            {role: manifest.files[name].size_bytes for role, name in owned.items() if name}
        )
        self.device = device
        self._package = package
        self._target = target
        self._cuda = cuda
        self._pinned = PinnedPool(cuda)

    def device_memory(self) -> Mapping[str, int]:
        """Bytes of the device by what for; `free` and `total` whoever uses it."""
        free, total = self._cuda.memory()
        return {**self._cuda.used, "free": free, "total": total}

    def open(self, role: str) -> HostArrayEngine:
        """Open one of the package's networks, on a stream of its own. Raises BackendError."""
        return HostArrayEngine(self._engine(role), self._package.manifest.roles[role].inputs)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph; the samples' state stays on the device."""
        return DeviceDenoiser(self._engine("denoiser"), self._cuda)

    def _engine(self, role: str) -> OnnxCudaEngine:
        return OnnxCudaEngine(self._package, self._target, role, self._cuda, self._pinned)


# ONNX's numbers of the dtypes that our graphs give.
_NUMPY = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
