"""The backends, a row for each: all that code outside of a backend's own folder knows of it.

The order is that of preference: `auto` takes the first that can draw. This module imports no
backend and no vendor's library; a row's `open` does. `docs/backends.md` says how to add a backend
by a folder and a row; `engine_build.target.compiler` has the rows of backends that compile.
"""

from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name

from runtime.backends.placing import TextWish
from runtime.backends.protocol import Backend
from runtime.backends.wishes import CpuPrecision
from runtime.errors import BackendError
from runtime.package.backend_name import BackendName
from runtime.package.manifest import ModelPackage
from runtime.package.target import Target

CPU: BackendName = "onnxruntime-cpu"
"""The backend that draws on every machine, from a package's own graphs."""


@dataclass(frozen=True, slots=True)
class Opening:
    """All that a backend is opened with."""

    package: ModelPackage
    target: Target | None
    """None for a backend that runs the package's own graphs."""
    device: str
    """The device's name, for people."""
    threads: int | None = None
    """CPU threads; None for as many as there are cores. Backends on a GPU ignore the number."""
    captures: bool = True
    """False: nothing runs as a CUDA graph."""
    text_encoders: TextWish = "keep"
    """The place of the text encoders; `auto` decides by the room that there is."""
    cpu_precision: CpuPrecision = "fp32"
    """One of the row's; backends on a GPU ignore the precision."""

    @property
    def compiled(self) -> Target:
        """The target of a backend that runs compiled engines."""
        assert self.target is not None, "a backend with compiled engines is opened on a target"
        return self.target


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend, as the code outside of its folder reads it."""

    name: BackendName
    library: str
    """The library that has to be installed, by the name that people know."""
    extra: str
    """The argument of `pip install` that brings the backend with all that it needs."""
    distributions: tuple[str, ...]
    """The Python distributions that bring the library, any of which is enough."""
    install: str
    """The remedy where none of the distributions is installed."""
    opener: str
    """The function that opens the backend, as `module:function`: the folder imports this module."""
    weights_beside: bool = False
    """True where an engine's file has no weights: the package's files of weights are loaded beside
    the engine."""
    gpus: tuple[str, ...] | None = None
    """The compute capabilities that the backend runs on; None for all."""
    cpu_precisions: tuple[CpuPrecision, ...] = ()
    """Of a backend that runs a package's own graphs on the CPU: the precisions that the backend
    computes in."""
    reads_in_place: bool = True
    """Of the same: True where the package's weights may lie outside of the package's folder."""

    def installed_version(self) -> str:
        """The library's installed version; nothing is loaded. Raises BackendError for none."""
        for distribution in self.distributions:
            with suppress(PackageNotFoundError):
                return version(distribution)
        raise BackendError(f"{self.distributions[0]} is not installed; {self.install}")

    def open(self, opening: Opening) -> Backend:
        """Import the backend's folder and its vendor, and open it. Raises BackendError."""
        backend: Backend = resolve_name(self.opener)(opening)
        return backend

    def gpu_fault(self, compute_capability: str) -> str | None:
        """The reason why the backend cannot run on a GPU, with the remedy; None where it can."""
        if self.gpus is None or compute_capability in self.gpus:
            return None
        others = " or ".join(row.name for row in TARGET_BACKENDS if row.gpus is None)
        return (
            f"{self.name} does not run on {compute_capability}: it is for the RTX line "
            f"({', '.join(self.gpus)}); take --backend {others}"
        )


TARGET_BACKENDS: tuple[BackendRow, ...] = (
    BackendRow(
        name="tensorrt",
        library="TensorRT",
        extra='"calotype[tensorrt]"',
        distributions=("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        install="install it with: pip install tensorrt",
        opener="runtime.backends.tensorrt.backend:open_backend",
    ),
    BackendRow(
        name="tensorrt-rtx",
        library="TensorRT for RTX",
        extra='"calotype[tensorrt-rtx]"',
        distributions=("tensorrt-rtx",),
        install="install it with: pip install tensorrt-rtx",
        opener="runtime.backends.tensorrt.backend:open_backend",
        # NVIDIA's support matrix, and sm_80, which its page on engines names. An H200 (sm_90)
        # refused an engine of 1.7.1.116 with "TensorRT-RTX does not support this compute
        # capability", and the compiler knows neither Hopper nor the data centre's Blackwell
        # (sm_100, sm_103):
        # https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix.html
        # https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
        gpus=("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121"),
    ),
    BackendRow(
        name="onnxruntime-cuda",
        library="onnxruntime-gpu",
        extra='"calotype[cuda]" (once onnxruntime is uninstalled)',
        distributions=("onnxruntime-gpu",),
        install="put it in the place of onnxruntime with: "
        "pip uninstall onnxruntime && pip install onnxruntime-gpu",
        opener="runtime.backends.onnxruntime.cuda:open_backend",
        weights_beside=True,
    ),
)
"""The backends that run the engines of a target on a GPU, the best first."""

CPU_BACKENDS: tuple[BackendRow, ...] = (
    BackendRow(
        name="openvino-cpu",
        library="OpenVINO",
        extra='"calotype[openvino]"',
        distributions=("openvino",),
        install="install it with: pip install openvino",
        opener="runtime.backends.openvino.backend:open_backend",
        cpu_precisions=("fp32", "bf16"),
        reads_in_place=False,
    ),
    BackendRow(
        name=CPU,
        library="ONNX Runtime",
        extra="calotype",
        distributions=("onnxruntime", "onnxruntime-gpu"),
        install="install it with: pip install onnxruntime",
        opener="runtime.backends.onnxruntime.cpu:open_backend",
        cpu_precisions=("fp32",),
    ),
)
"""The backends that run a package's own graphs on the CPU, with no target."""

BACKENDS: tuple[BackendRow, ...] = (*TARGET_BACKENDS, *CPU_BACKENDS)


def row_of(name: str) -> BackendRow:
    """The row of a backend by its name. Raises BackendError that lists the known backends."""
    for row in BACKENDS:
        if row.name == name:
            return row
    known = ", ".join(row.name for row in BACKENDS)
    raise BackendError(f"there is no backend {name!r}; known are {known}")


def installed_backend(*compute_capabilities: str) -> BackendRow | None:
    """The best backend for targets that is installed here and runs on all these GPUs, if any."""
    for row in TARGET_BACKENDS:
        if any(row.gpu_fault(each) for each in compute_capabilities):
            continue
        with suppress(BackendError):
            row.installed_version()
            return row
    return None
