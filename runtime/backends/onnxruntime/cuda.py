"""ONNX Runtime's CUDA provider: runs a target's optimised graphs with all state on the device."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from runtime.backends.device.bases import KeptBases
from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.device.denoiser import DeviceDenoiser
from runtime.backends.device.device import Device
from runtime.backends.device.engine import HostArrayEngine
from runtime.backends.device.places import offsets
from runtime.backends.device.replaced import ReplacedWeights
from runtime.backends.device.stream import Stream
from runtime.backends.device.weights import DeviceWeights
from runtime.backends.engine_files import EngineFiles, device_bytes
from runtime.backends.low_rank import Weights, base_of
from runtime.backends.onnxruntime.cuda_bound import Place
from runtime.backends.onnxruntime.cuda_call import OnnxCudaCall
from runtime.backends.onnxruntime.cuda_network import NetworkFiles, OnnxCudaNetwork
from runtime.backends.onnxruntime.elements import ELEMENT_TYPES
from runtime.backends.onnxruntime.libraries import load_cuda_libraries
from runtime.backends.placing import TO_CPU, TextWish, is_text
from runtime.backends.profiles import Profiles, Shape
from runtime.backends.protocol import Denoiser, TrialListener
from runtime.backends.room import host_room, placed, target_needs
from runtime.backends.rows import Opening
from runtime.errors import BackendError
from runtime.package.engine_record import Variant, variant_for
from runtime.package.manifest import BATCH, ModelPackage
from runtime.package.target import Target

logger = logging.getLogger(__name__)


class OnnxCudaEngine:
    """A role's graph on the device, and the graph's prelude where there is one.

    While weights are replaced, other sessions run a variant of both, whose weights are inputs. A
    weight that was replaced once has memory of its own, into which another set's values or the
    package's own are written from then on: its address stays, and so do CUDA graphs. The variant
    that takes the kernels of convolutions too is opened for the first set that changes such
    kernels, and stays open. Few sets change them, and all convolutions of that variant are slower.
    """

    def __init__(
        self, package: ModelPackage, target: Target, role: str, device: Device, path: Path
    ) -> None:
        """Open the graph at `path`, and its prelude's. Raises BackendError, also where the provider
        was not taken.
        """
        self.stream = Stream(device.cuda, urgent=not role.endswith("decoder"))
        self.pinned = device.pinned
        self._device = device
        self._package = package
        self._target = target
        self._role = role
        self._record = package.manifest.roles[role]
        identity = target.record.identity.engines[role]
        scale = package.manifest.latents.scale_factor
        self._profiles = Profiles(role, self._record.inputs, identity.profiles, scale)
        try:
            self._plain = self._open(path, target.prelude(role))
        except BackendError:
            self.stream.close()
            raise
        self._network = self._plain
        self._adaptable: OnnxCudaNetwork | None = None
        self._variant: Variant = "matrices"
        self._bases = KeptBases(device, role)
        self._writer = DeviceWeights(device, self.stream, self._bases)
        self._placed: dict[str, Place] = {}
        self._memory: list[DeviceMemory] = []
        self._replaced = ReplacedWeights(package, role)

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
        return self._network.call(shapes, self._profiles.words(shapes))

    def replace_weights(self, weights: Weights) -> None:
        """As `Engine.replace_weights`. Waits for the device. Raises BackendError."""
        self.stream.synchronize()
        if not weights:
            self._network = self._plain
            return
        adaptable = self._adapted(
            variant_for(base_of(each).values.shape for each in weights.values())
        )
        # Of every set: one that was refused would pass later, with some of its weights left out.
        adaptable.check_inputs(weights.keys())
        self._network = adaptable
        placed = self._place({name: weights[name] for name in weights.keys() - self._placed.keys()})
        self._placed |= placed
        if placed:
            # Bound before they are written: where writing fails, the next set finds them bound.
            adaptable.bind(placed)
        before = self._device.cuda.uploaded_bytes
        with self._replaced.union(weights) as wanted:
            self._writer.write(wanted, {name: self._placed[name].address for name in wanted})
        uploaded = self._device.cuda.uploaded_bytes - before
        logger.info(
            "%s: %d weights written, %.3f GB uploaded", self._role, len(wanted), uploaded / 1e9
        )

    def close(self) -> None:
        """Give the device's memory back; the engine cannot be used afterwards."""
        for network in (self._plain, self._adaptable):
            if network is not None:
                network.free()
        self._bases.close()
        while self._memory:
            self._device.cuda.free(self._memory.pop())
        self.stream.close()

    def _place(self, weights: Weights) -> dict[str, Place]:
        """Allocate one piece of memory for all of `weights`, which have no memory yet."""
        if not weights:
            return {}
        places, size = offsets(weights)
        memory = self._device.cuda.allocate(size, "LoRA weights")
        self._memory.append(memory)
        bases = {name: base_of(weight) for name, weight in weights.items()}
        return {
            name: Place(ELEMENT_TYPES[base.dtype], base.values.shape, memory.address + places[name])
            for name, base in bases.items()
        }

    def _adapted(self, variant: Variant) -> OnnxCudaNetwork:
        """The graphs of a variant in which the weights that `variant` names are inputs."""
        if self._adaptable is not None:
            if variant in ("matrices", self._variant):
                return self._adaptable
            self._network = self._plain
            self._adaptable.free()
            self._adaptable = None
        # These sessions have every weight once more.
        size = device_bytes(self._target, self._package.manifest)[self._role]
        self._device.cuda.check_room({f"{self._role} with LoRAs": size})
        network = self._open(
            self._target.variant(self._role, variant), self._target.prelude(self._role, variant)
        )
        network.bind(self._placed)
        self._adaptable, self._variant = network, variant
        return network

    def _open(self, main: Path, prelude: Path | None) -> OnnxCudaNetwork:
        engine = self._target.record.identity.engines[self._role]
        network = OnnxCudaNetwork(self._device, self.stream, self._role, self._record, engine)
        network.open(NetworkFiles(main, prelude, self._package.weights_folder(self._role)))
        return network


class OnnxRuntimeCuda:
    """The backend `onnxruntime-cuda`."""

    name = "onnxruntime-cuda"
    multiplies_updates = True
    few_shapes = True

    def __init__(
        self,
        package: ModelPackage,
        target: Target,
        cuda: Cuda,
        device: str,
        *,
        captures: bool = True,
        text_encoders: TextWish = "keep",
    ) -> None:
        """Threads start to read and check the files of all engines, which `open` waits for.

        Without `captures` nothing runs as a CUDA graph. Raises BackendError where the weights do
        not fit, or libraries of CUDA's are missing.
        """
        load_cuda_libraries()
        needs, host = target_needs(target, package.manifest), host_room(package.manifest)
        self.placing = placed(text_encoders, needs, cuda.memory(), host)
        self.device = device
        self._package = package
        self._target = target
        self._files = EngineFiles(target)
        self._device = Device(cuda, captures=captures)
        self._device.left_free = needs.beside_weights(self.placing.place)
        self.shortfalls: Iterable[str] = self._device.shortfalls

    def watch_trials(self, listener: TrialListener) -> None:
        """Tell `listener` of the first launch of every CUDA graph from now on."""
        self._device.trials = listener

    def device_memory(self) -> Mapping[str, int]:
        """Bytes in use by purpose; `free` and `total` are those of the whole device."""
        return self._device.memory()

    def uploaded_bytes(self) -> int:
        """Bytes that were copied to the device so far by our own code."""
        return self._device.cuda.uploaded_bytes

    def open(self, role: str) -> HostArrayEngine:
        """Open one of the package's networks, on a stream of its own. Raises BackendError."""
        if is_text(role) and self.placing.place == "aside":
            size = device_bytes(self._target, self._package.manifest)[role]
            self._device.cuda.check_room({role: size}, TO_CPU)
        return HostArrayEngine(self._engine(role), self._package.manifest.roles[role].inputs)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph; the samples' state stays on the device."""
        return DeviceDenoiser(self._engine("denoiser"), self._device.cuda)

    def check_loras(self) -> None:
        """Does nothing: the variants that LoRAs take are checked as engines open."""

    def _engine(self, role: str) -> OnnxCudaEngine:
        path = self._files.checked(role)
        return OnnxCudaEngine(self._package, self._target, role, self._device, path)


def open_backend(opening: Opening) -> OnnxRuntimeCuda:
    """The backend of a target, on the first GPU. Raises BackendError."""
    package, target, device = opening.package, opening.compiled, opening.device
    return OnnxRuntimeCuda(
        package,
        target,
        Cuda(),
        device,
        captures=opening.captures,
        text_encoders=opening.text_encoders,
    )
