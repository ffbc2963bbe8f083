"""A package's own graphs, unfused and in fp32, by one of ONNX Runtime's providers: the reference.

A weight that is stored in 16 bits is followed by a Cast in the graph. ONNX Runtime would compute
all Casts when it opens a graph, and hold every weight once more in fp32; with its optimisations off
it computes each Cast in every call. The order of nodes in the file decides when: ONNX Runtime walks
from a node backwards, first to the input whose producer stands last in the file, and runs nodes in
the order of that walk. A Cast in front of all other nodes therefore runs right before its reader,
and its fp32 output lives no longer; Casts that stand beside their readers would all run before
everything else. (`Graph::ReverseDFSFrom` in onnxruntime/core/graph/graph.cc, `NodeCompare` in
graph_viewer.cc.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import onnx_ir as ir
import onnxruntime

from runtime.backends.onnxruntime.libraries import load_cuda_libraries
from runtime.backends.protocol import Array
from runtime.errors import BackendError, in_one_line
from runtime.package.manifest import ModelPackage


@dataclass(frozen=True, slots=True)
class Place:
    """The ONNX Runtime provider that computes a reference."""

    provider: str
    """As ONNX Runtime names it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The provider's options."""

    @property
    def on_device(self) -> bool:
        """True for a GPU."""
        return self != CPU


_ERRORS = 3
"""ONNX Runtime's number of the level of logs that has errors alone."""

CPU = Place("CPUExecutionProvider")

CUDA = Place(
    "CUDAExecutionProvider",
    {
        # Its products would have 10 bits of mantissa, by default.
        "use_tf32": "0",
        # The arena would grow to twice what it was whenever it is full.
        "arena_extend_strategy": "kSameAsRequested",
        # cuDNN's own order, as the other choices have it, begins with tensor cores. Without those,
        # its next choice for a convolution of SDXL at 1024x1024 wanted 218 GB to work in.
        "cudnn_conv_algo_search": "DEFAULT",
    },
)


class UnfusedSession:
    """One graph, open in a place; host arrays in and out, with no CUDA graph and on no stream of
    ours.
    """

    def __init__(self, role: str, model: ir.Model, folder: Path, place: Place) -> None:
        """Open a graph whose weights lie in `folder`; `put_weights_first` changes `model` in place.

        Raises BackendError, also where ONNX Runtime took another provider than the place's.
        """
        self._role = role
        put_weights_first(model)
        self._session = _opened(role, ir.to_proto(model).SerializeToString(), folder, place)
        self._outputs = [output.name for output in self._session.get_outputs()]

    @classmethod
    def of_role(cls, package: ModelPackage, role: str, place: Place) -> Self:
        """Open one of a package's networks. Raises BackendError."""
        return cls(role, ir.load(graph_file(package, role)), package.weights_folder(role), place)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, named arrays out. Raises BackendError."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # onnxruntime's own errors share no base but this
            raise BackendError(
                f"{self._role}: ONNX Runtime failed: {in_one_line(error)}"
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Give the session's memory back; the session is not to be used any more."""
        del self._session


def graph_file(package: ModelPackage, role: str) -> Path:
    """A role's own graph."""
    return package.file(package.manifest.roles[role].graph)


def put_weights_first(model: ir.Model) -> None:
    """Put the nodes that depend on weights alone in front of all others, in place."""
    graph = model.graph
    first: list[ir.Node] = []
    known: set[ir.Value] = set(graph.initializers.values())
    for node in graph:
        if all(value is None or value in known for value in node.inputs):
            first.append(node)
            known.update(node.outputs)
    if first:
        graph.remove(first)
        graph.insert_before(graph[0], first)


def session_options(folder: Path) -> onnxruntime.SessionOptions:
    """Options to run a graph as it is written, without optimisations, its weights in `folder`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder)
    )
    # In the arena, weights would be rounded up, and lie between what grows and shrinks.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    # One piece for all that lies between kernels would be another one at each larger shape.
    options.enable_mem_pattern = False
    return options


def _opened(role: str, model: bytes, folder: Path, place: Place) -> onnxruntime.InferenceSession:
    if place == CUDA:
        load_cuda_libraries()
        # Each convolution warns of the fallback, and not through the session's own logger.
        onnxruntime.set_default_logger_severity(_ERRORS)
    try:
        session = onnxruntime.InferenceSession(
            model,
            session_options(folder),
            providers=[(place.provider, dict(place.settings))],
            # It would take the CPU where a provider fails, with a line on standard output.
            enable_fallback=0,
        )
    except Exception as error:
        raise BackendError(
            f"{role}: ONNX Runtime cannot open its graph with {place.provider}: "
            f"{in_one_line(error)}"
        ) from error
    found = session.get_providers()
    # ONNX Runtime takes the CPU and says nothing if the provider's libraries are missing.
    if found[0] != place.provider:
        raise BackendError(
            f"{role}: ONNX Runtime took {', '.join(found)}, asked for {place.provider}; install "
            "what it needs with: pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return session
