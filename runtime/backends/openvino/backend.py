"""The backend `openvino-cpu`: the networks of a package, each open in OpenVINO on the CPU."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.openvino.engine import OpenVinoEngine
from runtime.backends.openvino.library import Compiling, OpenVino
from runtime.backends.placing import TextWish, placed_on_cpu
from runtime.backends.protocol import Denoiser, Engine
from runtime.backends.rows import Opening
from runtime.backends.wishes import CpuPrecision
from runtime.package.manifest import ModelPackage


class OpenVinoCpu:
    """The backend `openvino-cpu`. The denoiser alone computes in another precision than fp32."""

    name = "openvino-cpu"
    device = "cpu"
    multiplies_updates = False
    few_shapes = False

    def __init__(
        self,
        package: ModelPackage,
        threads: int | None = None,
        text_encoders: TextWish = "keep",
        precision: CpuPrecision = "fp32",
    ) -> None:
        """Import OpenVINO; no network is opened yet. Raises BackendError."""
        self.placing = placed_on_cpu(text_encoders)
        self._package = package
        self._plain = Compiling(threads)
        self._steps = Compiling(threads, precision)
        self._library = OpenVino()
        # One at a time: a compilation takes a core from the steps.
        self._beside = ThreadPoolExecutor(1, "openvino-compiler")

    def open(self, role: str) -> Engine:
        """Open one of the package's networks; previews get one thread, the rest is for steps."""
        if role == "denoiser":
            return self._engine(role, self._steps, single_shapes=True)
        how = replace(self._plain, threads=1) if role == "preview_decoder" else self._plain
        return self._engine(role, how, single_shapes=False)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph; the samples' state stays in host memory."""
        return HostDenoiser(self.open("denoiser"))

    def check_loras(self) -> None:
        """Nothing is needed beside the package's graphs: their constants become inputs."""

    def _engine(self, role: str, how: Compiling, *, single_shapes: bool) -> OpenVinoEngine:
        return OpenVinoEngine(
            self._library, self._package, role, how, self._beside, single_shapes=single_shapes
        )


def open_backend(opening: Opening) -> OpenVinoCpu:
    """The backend of a package's own graphs. Raises BackendError."""
    return OpenVinoCpu(
        opening.package, opening.threads, opening.text_encoders, opening.cpu_precision
    )
