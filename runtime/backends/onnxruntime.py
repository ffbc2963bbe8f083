"""ONNX Runtime on the CPU: runs a package's graphs as the build stage wrote them."""

from collections.abc import Mapping

from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.protocol import Array, Denoiser, Engine
from runtime.errors import BackendError
from runtime.manifest import ModelPackage

PROVIDER = "CPUExecutionProvider"


class OnnxEngine:
    """One graph, open in ONNX Runtime."""

    def __init__(self, package: ModelPackage, role: str, threads: int | None) -> None:
        """Open the role's graph. `threads` None: as many as there are cores."""
        # Vendors are imported where they are opened, so that importing the runtime stays cheap.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Several sessions share the cores (steps, previews, the VAE): a thread that spins while it
        # has nothing to do takes them from the others. Measured: a third of the time of a step.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        self._role = role
        path = package.file(package.manifest.roles[role].graph)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=[PROVIDER])
        except Exception as error:
            raise BackendError(f"{path}: ONNX Runtime cannot open it: {_line(error)}") from error
        if self._session.get_providers() != [PROVIDER]:
            found = ", ".join(self._session.get_providers())
            raise BackendError(f"{path}: ONNX Runtime took {found}, asked for {PROVIDER}")
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, named arrays out."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise BackendError(f"{self._role}: ONNX Runtime failed: {_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntimeCpu:
    """The backend `onnxruntime-cpu`."""

    name = "onnxruntime-cpu"
    device = "cpu"

    def __init__(self, package: ModelPackage, threads: int | None = None) -> None:
        """Nothing is opened yet."""
        self._package = package
        self._threads = threads

    def open(self, role: str) -> Engine:
        """Open one of the package's networks; previews get one thread, the rest is for steps."""
        threads = 1 if role == "preview_decoder" else self._threads
        return OnnxEngine(self._package, role, threads)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph; the samples' state stays in host memory."""
        return HostDenoiser(self.open("denoiser"))


def _line(error: Exception) -> str:
    """The vendor's message without its line breaks."""
    return " ".join(str(error).split())
