"""ONNX Runtime on the CPU: runs a package's graphs as the build stage wrote them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.low_rank import Weights, merged
from runtime.backends.onnxruntime.cpu_threads import ChoosingEngine
from runtime.backends.onnxruntime.elements import ELEMENT_TYPES
from runtime.backends.placing import TextWish, placed_on_cpu
from runtime.backends.protocol import Array, Denoiser, Engine, Started
from runtime.backends.rows import Opening
from runtime.errors import BackendError, in_one_line
from runtime.machine import usable_cores
from runtime.package.adaptable import adaptable_graphs
from runtime.package.manifest import ModelPackage, RoleRecord
from runtime.package.tensors import Tensor

if TYPE_CHECKING:
    import onnxruntime

PROVIDER = "CPUExecutionProvider"
SPIN_MICROSECONDS = "20"
"""Measured on two cores, steps of the demo model at 128, 256 and 512 pixels and of a model of 33 M
parameters took 0.79, 0.79, 0.89 and 0.97 of their times without spinning; 50 and 300 gain no more.
"""


def open_session(
    graph: Path | bytes, options: "onnxruntime.SessionOptions", external_folder: Path | None
) -> "onnxruntime.InferenceSession":
    """Open a graph whose weights lie beside it, or in `external_folder`. Raises ONNX Runtime's own
    errors.

    ONNX Runtime reads no weights outside a graph's folder, unless the graph is handed over as bytes
    together with the folder of the weights.
    """
    import onnxruntime

    if external_folder is None:
        return onnxruntime.InferenceSession(graph, options, providers=[PROVIDER])
    key = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(key, str(external_folder))
    model = graph.read_bytes() if isinstance(graph, Path) else graph
    return onnxruntime.InferenceSession(model, options, providers=[PROVIDER])


class OnnxEngine:
    """A role's graph, open in ONNX Runtime.

    While weights are replaced, a second session runs the role's adaptable graph, whose parameters
    are inputs. Another set of weights opens no further session, and the first session stays
    open with the package's own weights.
    """

    def __init__(self, package: ModelPackage, role: str, threads: int) -> None:
        """Open the role's graph, to be run by so many threads. Raises BackendError."""
        self._role = role
        self._package = package
        self._threads = threads
        record = package.manifest.roles[role]
        # None: the weights lie beside the graph, which can be opened as a file.
        outside = None if record.external_folder is None else package.weights_folder(role)
        self._session = self._open(package.file(record.graph), outside)
        self._adaptable: onnxruntime.InferenceSession | None = None
        self._replaced: dict[str, Any] = {}
        self._outputs = [output.name for output in self._session.get_outputs()]

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Run at once, on the cores that all engines share. Raises BackendError."""
        outputs = self.run(inputs)
        return lambda: outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, named arrays out. Raises BackendError."""
        session = self._adaptable if self._replaced and self._adaptable else self._session
        values = self._called(session, {**inputs, **self._replaced})
        return dict(zip(self._outputs, values, strict=True))

    def give_back(self) -> None:
        """Give back the memory that ONNX Runtime keeps of the largest call: it does so at the end
        of a call alone, which here is one of the least inputs. Raises BackendError.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        least = least_inputs(self._package.manifest.roles[self._role])
        self._called(self._session, least, options)
        if self._replaced and self._adaptable:
            self._called(self._adaptable, {**least, **self._replaced}, options)

    def replace_weights(self, weights: Weights) -> None:
        """Pass `weights` with every call from now on. The first weights open the second session.

        Raises BackendError, and PackageError for missing or damaged adaptable graphs.
        """
        if weights and self._adaptable is None:
            graph = adaptable_graphs(self._package)[self._role]
            self._adaptable = self._open(graph, self._package.weights_folder(self._role))
        self._replaced = {name: _value(merged(weight)) for name, weight in weights.items()}

    def close(self) -> None:
        """Give the memory of both sessions back."""
        del self._session
        self._adaptable, self._replaced = None, {}

    def _called(
        self,
        session: "onnxruntime.InferenceSession",
        inputs: Mapping[str, Any],
        options: "onnxruntime.RunOptions | None" = None,
    ) -> Sequence[Any]:
        try:
            values: Sequence[Any] = session.run(self._outputs, inputs, options)
        except Exception as error:
            raise BackendError(
                f"{self._role}: ONNX Runtime failed: {in_one_line(error)}"
            ) from error
        return values

    def _open(self, graph: Path, external_folder: Path | None) -> "onnxruntime.InferenceSession":
        try:
            session = open_session(graph, self._options(), external_folder)
        except Exception as error:
            raise BackendError(
                f"{graph}: ONNX Runtime cannot open it: {in_one_line(error)}"
            ) from error
        if session.get_providers() != [PROVIDER]:
            found = ", ".join(session.get_providers())
            raise BackendError(f"{graph}: ONNX Runtime took {found}, asked for {PROVIDER}")
        return session

    def _options(self) -> "onnxruntime.SessionOptions":
        # Vendors are imported where they are opened, so that importing the runtime stays cheap.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # The second call of a shape would have all its memory in one piece, beside the pieces that
        # the first call left: 2.9 GB for 1.7. It is no faster.
        options.enable_mem_pattern = False
        # Between two operators of a call a thread waits without sleeping, since to be woken takes
        # longer than most operators. Several sessions share the cores (steps, previews, the VAE),
        # so a thread that has waited for so long sleeps, and all sleep once the call ends.
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.intra_op_num_threads = self._threads
        cores = usable_cores()[1 : self._threads]
        if len(cores) == self._threads - 1 > 0:
            # A thread that is woken for a call often stays on the processor of the thread that
            # calls, and the two take turns there: on two cores the demo's VAE took 26 ms for 16.
            options.add_session_config_entry(
                "session.intra_op_thread_affinities", ";".join(str(core + 1) for core in cores)
            )
        return options


class OnnxRuntimeCpu:
    """The backend `onnxruntime-cpu`."""

    name = "onnxruntime-cpu"
    device = "cpu"
    multiplies_updates = False
    few_shapes = False

    def __init__(
        self, package: ModelPackage, threads: int | None = None, text_encoders: TextWish = "keep"
    ) -> None:
        """Nothing is opened yet."""
        self.placing = placed_on_cpu(text_encoders)
        self._package = package
        self._threads = threads or len(usable_cores())

    def open(self, role: str) -> Engine:
        """Open one of the package's networks. Previews get one thread, steps as many as their times
        suggest, and the rest all.
        """

        def open_engine(threads: int) -> Engine:
            return OnnxEngine(self._package, role, threads)

        if role == "denoiser":
            return ChoosingEngine(open_engine, self._threads)
        return open_engine(1 if role == "preview_decoder" else self._threads)

    def open_denoiser(self) -> Denoiser:
        """Open the step graph; the samples' state stays in host memory."""
        return HostDenoiser(self.open("denoiser"))

    def check_loras(self) -> None:
        """Raises PackageError for missing or damaged adaptable graphs."""
        adaptable_graphs(self._package)


def least_inputs(record: RoleRecord) -> dict[str, Array]:
    """Inputs of a role, all zeros, each axis of the least extent that the role takes."""
    axes = record.axes
    return {
        name: np.zeros(
            [axes[each].minimum if isinstance(each, str) else each for each in given.shape],
            given.dtype,
        )
        for name, given in record.inputs.items()
    }


def open_backend(opening: Opening) -> OnnxRuntimeCpu:
    """The backend of a package's own graphs. Raises BackendError."""
    return OnnxRuntimeCpu(opening.package, opening.threads, opening.text_encoders)


def _value(tensor: Tensor) -> Any:
    """A tensor as ONNX Runtime takes it; NumPy has no name for bf16."""
    import onnxruntime

    if tensor.dtype != "BF16":
        return tensor.values
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
        tensor.values, ELEMENT_TYPES[tensor.dtype]
    )
