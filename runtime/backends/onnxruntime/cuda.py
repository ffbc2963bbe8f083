"""ONNX Runtime's CUDA provider: runs a target's optimised graphs with all state on the device."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.device.denoiser import DeviceDenoiser
from runtime.backends.device.device import Device
from runtime.backends.device.engine import HostArrayEngine
from runtime.backends.device.stream import Stream
from runtime.backends.device.weights import DeviceWeights, offsets
from runtime.backends.engine_files import EngineFiles, device_bytes
from runtime.backends.low_rank import Weights, base_of
from runtime.backends.onnxruntime.convolutions import with_plain_convolutions
from runtime.backends.onnxruntime.cuda_session import OnnxCudaCall, OnnxCudaSession, Placed
from runtime.backends.onnxruntime.graph import with_inputs
from runtime.backends.onnxruntime.libraries import load_cuda_libraries
from runtime.backends.profiles import Profiles, Shape
from runtime.backends.protocol import Denoiser, TrialListener
from runtime.package.manifest import BATCH, ModelPackage
from runtime.package.target import Target
from runtime.package.tensors import Tensor

_MATRIX = 2
"""Axes; the weights of convolutions have more."""


class OnnxCudaEngine:
    """A role's graph on the device.

    While weights are replaced, a second session runs it, whose matrices are inputs. Once one has
    been replaced it has memory of its own, where another set's values or the package's own are
    written from then on: addresses stay, and so do graphs. The weights of convolutions are inputs
    from the first set on that has some, which few have: it makes all convolutions slower.
    """

    def __init__(
        self, package: ModelPackage, target: Target, role: str, device: Device, path: Path
    ) -> None:
        """Open it, from `path`. Raises BackendError, also where the provider was not taken."""
        self.stream = Stream(device.cuda, urgent=not role.endswith("decoder"))
        self.pinned = device.pinned
        self._device = device
        self._package = package
        self._target = target
        self._role = role
        self._path = path
        self._record = package.manifest.roles[role]
        identity = target.record.identity.engines[role]
        scale = package.manifest.latents.scale_factor
        self._profiles = Profiles(role, self._record.inputs, identity.profiles, scale)
        self._plain = self._open(path.read_bytes())
        self._session = self._plain
        self._adaptable: OnnxCudaSession | None = None
        self._convolving = False
        self._writer = DeviceWeights(device.cuda, self.stream, device.pinned)
        self._placed: dict[str, Placed] = {}
        self._memory: list[DeviceMemory] = []
        self._replaced: frozenset[str] = frozenset()

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
        self.check(shapes)
        return self._session.call(shapes, self._profiles.words(shapes))

    def replace_weights(self, weights: Weights) -> None:
        """As of an Engine. Waits for the device. Raises BackendError."""
        self.stream.synchronize()
        if not weights:
            self._session = self._plain
            return
        convolving = any(_is_convolution(base_of(each).values.shape) for each in weights.values())
        adaptable = self._adapted(convolving=convolving or self._convolving)
        self._session = adaptable
        placed = self._place({name: weights[name] for name in weights.keys() - self._placed.keys()})
        self._placed |= placed
        if placed:
            # Before they are written: one that fails halfway leaves them to the next set.
            adaptable.bind(placed)
        # Whatever fails below, these may hold something else than the package's own.
        self._replaced |= weights.keys()
        self._writer.write(
            (weights.get(name, self._own[name]), self._placed[name].address)
            for name in sorted(self._replaced)
        )
        self._replaced = frozenset(weights)

    def close(self) -> None:
        """Give the device's memory back; it is not to be used any more."""
        for session in (self._plain, self._adaptable):
            if session is not None:
                session.free()
        while self._memory:
            self._device.cuda.free(self._memory.pop())

    @cached_property
    def _own(self) -> Mapping[str, Tensor]:
        return self._package.tensors(self._role)

    def _place(self, weights: Weights) -> dict[str, Placed]:
        """Memory for weights that had none yet, all of it or none."""
        if not weights:
            return {}
        places, size = offsets(weights)
        memory = self._device.cuda.allocate(size, "LoRA weights")
        self._memory.append(memory)
        return {
            name: Placed(base_of(weight), memory.address + places[name])
            for name, weight in weights.items()
        }

    def _adapted(self, *, convolving: bool) -> OnnxCudaSession:
        """The session whose matrices are inputs; another one once convolutions are to be."""
        if self._adaptable is not None and self._convolving == convolving:
            return self._adaptable
        if self._adaptable is not None:
            self._session = self._plain
            self._adaptable.free()
            self._adaptable = None
        # It has every weight once more.
        size = device_bytes(self._target, self._package.manifest)[self._role]
        self._device.cuda.check_room({f"{self._role} with LoRAs": size})
        model = self._path.read_bytes()
        if convolving:
            model = with_plain_convolutions(model)
        inputs = [
            each
            for each in self._record.parameters.values()
            if each.replaceable and (convolving or not _is_convolution(each.shape))
        ]
        session = self._open(with_inputs(model, inputs))
        session.bind(self._placed)
        self._adaptable, self._convolving = session, convolving
        return session

    def _open(self, model: bytes) -> OnnxCudaSession:
        engine = self._target.record.identity.engines[self._role]
        session = OnnxCudaSession(self._device, self.stream, self._role, self._record, engine)
        session.open(model, self._path, self._package.weights_folder(self._role))
        return session


def _is_convolution(shape: Shape) -> bool:
    return len(shape) > _MATRIX


class OnnxRuntimeCuda:
    """The backend `onnxruntime-cuda`."""

    name = "onnxruntime-cuda"
    multiplies_updates = True

    def __init__(
        self,
        package: ModelPackage,
        target: Target,
        cuda: Cuda,
        device: str,
        *,
        captures: bool = True,
    ) -> None:
        """Engines' files are read and checked from here on, as they are opened.

        Without `captures` nothing runs as a CUDA graph. Raises BackendError where the weights do
        not fit, or libraries of CUDA's are missing.
        """
        load_cuda_libraries()
        cuda.check_room(device_bytes(target, package.manifest))
        self.device = device
        self._package = package
        self._target = target
        self._files = EngineFiles(target)
        self._device = Device(cuda, captures=captures)
        self.shortfalls: Iterable[str] = self._device.shortfalls

    def watch_trials(self, listener: TrialListener) -> None:
        """Let the first launches of CUDA graphs be told from now on."""
        self._device.trials = listener

    def device_memory(self) -> Mapping[str, int]:
        """Bytes of the device by what for; `free` and `total` whoever uses it."""
        return self._device.memory()

    def open(self, role: str) -> HostArrayEngine:
        """Open one of the package's networks, on a stream of its own. Raises BackendError."""
        engine = self._engine(role)
        return HostArrayEngine(engine, self._package.manifest.roles[role].inputs, engine.close)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph; the samples' state stays on the device."""
        return DeviceDenoiser(self._engine("denoiser"), self._device.cuda)

    def _engine(self, role: str) -> OnnxCudaEngine:
        path = self._files.checked(role)
        return OnnxCudaEngine(self._package, self._target, role, self._device, path)
