"""OpenVINO: a graph read, compiled for the CPU, and run. Raises BackendError for the vendor's own.

https://docs.openvino.ai/2026/openvino-workflow/running-inference.html
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.protocol import Array
from runtime.errors import BackendError, in_one_line
from runtime.package.manifest import Precision
from runtime.package.tensors import Tensor

DEVICE = "CPU"

_TYPES: Mapping[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""OpenVINO's names of the types that matrix products are computed in."""

_TOOLS = "openvino.tools.ovc"

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""The name and shape of each of a graph's inputs."""


@dataclass(frozen=True, slots=True)
class Compiling:
    """How graphs are compiled for the CPU."""

    threads: int | None = None
    """None: as many as there are cores."""
    precision: Precision = "fp32"
    """The precision of matrix products and convolutions."""

    @property
    def properties(self) -> dict[str, Any]:
        """OpenVINO's properties of a compilation."""
        chosen = {
            "INFERENCE_PRECISION_HINT": _TYPES[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # Several networks share the cores: each pinned to the first ones would wait there for
            # the others while the last ones are idle.
            "ENABLE_CPU_PINNING": False,
        }
        if self.threads is not None:
            chosen["INFERENCE_NUM_THREADS"] = self.threads
        return chosen


class Request:
    """A compiled graph that can be run. For one thread at a time."""

    def __init__(self, compiled: Any, inputs: Iterable[str]) -> None:
        """`inputs` are those of a single shape: their tensors are filled in place, since the
        vendor's dispatch of arrays takes 0.4 ms of a call.
        """
        self._request = compiled.create_infer_request()
        self._outputs = [output.get_any_name() for output in compiled.outputs]
        self._filled = {name: self._request.get_tensor(name).data for name in inputs}
        self._weights: Mapping[str, Any] = {}

    def run(self, inputs: Mapping[str, Array], weights: Mapping[str, Any]) -> dict[str, Array]:
        """Named arrays in, named arrays out, which are the caller's own.

        `weights` are the vendor's tensors of inputs that stay as they are over many calls: only
        another mapping is handed over anew. Raises BackendError.
        """
        try:
            if weights is not self._weights:
                for name, value in weights.items():
                    self._request.set_tensor(name, value)
                self._weights = weights
            if self._filled:
                return self._run_filled(inputs)
            values = self._request.infer(inputs, share_inputs=True).values()
        except Exception as error:
            raise BackendError(f"OpenVINO failed: {_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))

    def _run_filled(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        for name, array in inputs.items():
            self._filled[name][...] = array
        # `infer` makes views of all inputs and outputs by their names; this does not.
        self._request.start_async()
        self._request.wait()
        return {
            name: np.array(self._request.get_output_tensor(index).data)
            for index, name in enumerate(self._outputs)
        }


class OpenVino:
    """The library, imported."""

    def __init__(self) -> None:
        """Raises BackendError where OpenVINO cannot be imported."""
        try:
            with _without_tools():
                import openvino
        except Exception as error:
            raise BackendError(f"OpenVINO cannot be imported: {_line(error)}") from error
        self._vendor = openvino
        self._core = openvino.Core()

    def read(self, graph: Path) -> Any:
        """The vendor's model of a graph whose weights lie beside the file; weights are mapped.

        Raises BackendError.
        """
        try:
            return self._core.read_model(graph)
        except Exception as error:
            raise BackendError(f"{graph}: OpenVINO cannot read it: {_line(error)}") from error

    def compile(self, model: Any, how: Compiling, shapes: Shapes | None = None) -> Request:
        """The model, ready to run on inputs of these shapes; None: of all that the graph takes.

        The model stays as it was. Raises BackendError, also where the CPU cannot compute in the
        precision asked for.
        """
        try:
            if shapes is not None:
                model = model.clone()
                model.reshape({name: list(shape) for name, shape in shapes})
            compiled = self._core.compile_model(model, DEVICE, how.properties)
            took = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        except Exception as error:
            raise BackendError(f"OpenVINO cannot compile it: {_line(error)}") from error
        if took != _TYPES[how.precision]:
            raise BackendError(
                f"OpenVINO computes in {took} on this CPU, asked for {_TYPES[how.precision]}; draw "
                "with --cpu-precision fp32"
            )
        return Request(compiled, [name for name, _ in shapes or ()])

    def with_inputs(self, model: Any, names: Collection[str]) -> tuple[Any, dict[str, Any]]:
        """A copy of the model in which those of its constants that have these names are inputs; and
        their values by name, as the vendor's tensors over the mapped file.
        """
        operators, changed = self._vendor.op, model.clone()
        constants = {
            node.get_friendly_name(): node
            for node in changed.get_ops()
            if node.get_type_name() == "Constant" and node.get_friendly_name() in names
        }
        added, values = [], {}
        for name, constant in constants.items():
            shape = constant.get_output_partial_shape(0)
            parameter = operators.Parameter(constant.get_element_type(), shape)
            parameter.set_friendly_name(name)
            parameter.output(0).set_names({name})
            values[name] = constant.get_tensor_view()
            constant.output(0).replace(parameter.output(0))
            added.append(parameter)
        changed.add_parameters(added)
        return changed, values

    def tensor(self, tensor: Tensor) -> Any:
        """The vendor's tensor over a tensor's own memory: to be kept as long as that is used."""
        values = tensor.values
        if not (values.flags.writeable and values.flags.c_contiguous):
            values = np.array(values, order="C")  # the vendor shares no other memory
        if tensor.dtype != "BF16":
            return self._vendor.Tensor(values, shared_memory=True)
        shape = self._vendor.Shape(list(values.shape))
        return self._vendor.Tensor(values, shape, self._vendor.Type.bf16)


@contextmanager
def _without_tools() -> Iterator[None]:
    """Keep `import openvino` from importing its conversion tools.

    On import those report to the vendor over the network, through openvino-telemetry, and leave an
    id in the user's home (openvino/tools/ovc/__init__.py). OpenVINO does without them, and is
    imported in a fifth of the time.
    """
    if _TOOLS in sys.modules:
        yield
        return
    # Documented: None under a module's name makes its import an ImportError, which is caught there.
    sys.modules[_TOOLS] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TOOLS]


def _line(error: Exception) -> str:
    """The vendor's message without its line breaks, and without where in its source it arose."""
    lines = [line for line in str(error).splitlines() if not line.startswith("Exception from")]
    return in_one_line(" ".join(lines)) or type(error).__name__
