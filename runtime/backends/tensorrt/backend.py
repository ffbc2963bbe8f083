"""TensorRT, of whichever flavour: runs a target's engines on a GPU, with no PyTorch."""

from collections.abc import Iterable, Mapping

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.denoiser import DeviceDenoiser
from runtime.backends.device.engine import HostArrayEngine
from runtime.backends.engine_files import EngineFiles, device_bytes
from runtime.backends.placing import TO_CPU, TextWish, is_text
from runtime.backends.protocol import Denoiser, TrialListener
from runtime.backends.room import host_room, placed, target_needs
from runtime.backends.rows import Opening
from runtime.backends.tensorrt.engine import TensorRtEngine
from runtime.backends.tensorrt.flavour import installed_flavour
from runtime.backends.tensorrt.vendor import Vendor, open_vendor
from runtime.package.manifest import ModelPackage
from runtime.package.target import Target


def open_backend(opening: Opening) -> "TensorRt":
    """The backend of a target, on the first GPU. Raises BackendError."""
    target = opening.compiled
    cuda = Cuda()  # Before TensorRT: its runtime ends the process where there is no device.
    flavour = installed_flavour(target.record.identity.backend)
    vendor = open_vendor(flavour, flavour.load(), cuda, captures=opening.captures)
    return TensorRt(opening.package, target, vendor, opening.device, opening.text_encoders)


class TensorRt:
    """The backends `tensorrt` and `tensorrt-rtx`."""

    multiplies_updates = True
    few_shapes = True

    def __init__(
        self,
        package: ModelPackage,
        target: Target,
        vendor: Vendor,
        device: str,
        text_encoders: TextWish = "keep",
    ) -> None:
        """Threads start to read and check the files of all engines, which `open` waits for.

        Raises BackendError where the engines do not fit into the GPU's memory.
        """
        needs, host = target_needs(target, package.manifest), host_room(package.manifest)
        self.placing = placed(text_encoders, needs, vendor.device.cuda.memory(), host)
        vendor.device.left_free = needs.beside_weights(self.placing.place)
        self.name: str = target.record.identity.backend
        self.device = device
        self.shortfalls: Iterable[str] = vendor.device.shortfalls
        self._package = package
        self._target = target
        self._vendor = vendor
        self._files = EngineFiles(target)

    def watch_trials(self, listener: TrialListener) -> None:
        """Tell `listener` of the first launch of every CUDA graph from now on."""
        self._vendor.device.trials = listener

    def device_memory(self) -> Mapping[str, int]:
        """Bytes in use by purpose; `free` and `total` are those of the whole device."""
        return self._vendor.device.memory()

    def uploaded_bytes(self) -> int:
        """Bytes that were copied to the device so far by our own code."""
        return self._vendor.device.cuda.uploaded_bytes

    def open(self, role: str) -> HostArrayEngine:
        """Open one of the package's networks, on a stream of its own. Raises BackendError."""
        if is_text(role) and self.placing.place == "aside":
            size = device_bytes(self._target, self._package.manifest)[role]
            self._vendor.device.cuda.check_room({role: size}, TO_CPU)
        # Text is on the way to the first step of a picture; previews and the VAE are behind it.
        urgent = not role.endswith("decoder")
        engine = self._device_engine(role, urgent=urgent)
        return HostArrayEngine(engine, self._package.manifest.roles[role].inputs)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph; the samples' state stays on the device."""
        return DeviceDenoiser(
            self._device_engine("denoiser", urgent=True), self._vendor.device.cuda
        )

    def check_loras(self) -> None:
        """Does nothing: LoRAs take no file beside the engines, which are checked as they open."""

    def _device_engine(self, role: str, *, urgent: bool) -> TensorRtEngine:
        self._files.checked(role)
        return TensorRtEngine(self._vendor, self._package, self._target, role, urgent=urgent)
