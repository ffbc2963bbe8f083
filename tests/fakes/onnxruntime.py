"""Stands in for ONNX Runtime's CUDA provider: its sessions over the memory of the fake of CUDA.

What it computes is computed by ONNX Runtime on the CPU, at the addresses that were bound when it
was enqueued. It fails as the real one does: its arena grows in the first runs of a shape, in a
capture too; a kernel that finds an error in the provider's own copy of CUDA's runtime takes it for
its own; a run that waits spoils a capture. A test holds its methods to the real ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from weakref import finalize, ref

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from tests.fakes.cuda import FakeCuda, FakeError, FakeRuntime, Work

_ELEMENTS = {
    1: np.float32,
    2: np.uint8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    16: np.uint16,
}
ARENA = 1024
"""Bytes by which an arena grows."""
_TYPES = {"tensor(float)": 1, "tensor(uint8)": 2, "tensor(int64)": 7, "tensor(float16)": 10}


@dataclass
class FakeProvider:
    """The library's CUDA provider: what all of its sessions have in common."""

    cuda: FakeCuda
    took: str
    """The providers that sessions name."""
    captures: bool = True
    """True when sessions with captured runs can be opened."""
    refusal: str = ""
    """The refusal of every session; empty when sessions open."""
    growing: int = 3
    """In so many runs of a shape the arena takes memory of the device."""
    in_capture: Callable[[bytes, int], str] = lambda _model, _stream: ""
    """The behaviour of a run on a stream that captures; returns its refusal."""
    keeps_tables: bool = True
    """True when host memory that a captured kernel reads is kept."""
    opened: list[bool] = field(default_factory=list)
    """For each session that was opened, whether it was to have its runs captured."""
    ran: list[bytes] = field(default_factory=list)
    """The model of each run that a session was asked for; replays of graphs are none."""
    captured_plain_sessions: int = 0
    """How often a session was captured that was not opened for that."""
    runtime: FakeRuntime = field(init=False)

    def __post_init__(self) -> None:
        self.runtime = FakeRuntime(self.cuda)


@dataclass(eq=False)
class _Tables:
    """Host memory that the kernels of a captured run read."""

    shapes: object
    lost: bool = False


@dataclass
class _Bound:
    element: Any
    shape: tuple[int, ...]
    address: int


class FakeOutput:
    """`OrtValue`, as far as an output is asked what it is."""

    def __init__(self, array: Any, element: int) -> None:
        self._array = array
        self._element = element

    def shape(self) -> list[int]:
        return list(self._array.shape)

    def element_type(self) -> int:
        return self._element


class FakeIOBinding:
    """`IOBinding`."""

    def __init__(self, session: object, outputs: dict[str, int]) -> None:
        self.session = session
        """Whose it is; a run of another with it is undefined."""
        self.bound_inputs: dict[str, _Bound] = {}
        self.bound_outputs: dict[str, _Bound | None] = {}
        self.made: dict[str, Any] = {}
        self._types = outputs

    def bind_input(  # noqa: PLR0917 - as the real one
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: tuple[int, ...],
        buffer_ptr: int,
    ) -> None:
        assert (device_type, device_id) == ("cuda", 0)
        self.bound_inputs[name] = _Bound(_ELEMENTS[element_type], tuple(shape), buffer_ptr)

    def bind_output(  # noqa: PLR0917 - as the real one
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: tuple[int, ...] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        assert (device_type, device_id) == ("cuda", 0)
        bound = None if buffer_ptr is None else _Bound(element_type, shape or (), buffer_ptr)
        self.bound_outputs[name] = bound

    def get_outputs(self) -> list[FakeOutput]:
        return [FakeOutput(array, self._types[name]) for name, array in self.made.items()]


class FakeSession:
    """`InferenceSession` on the device."""

    def __init__(
        self, provider: FakeProvider, model: bytes, options: Any, providers: list[Any]
    ) -> None:
        self._provider = provider
        self._cuda = provider.cuda
        self._stream = int(providers[0][1]["user_compute_stream"])
        self._captures = providers[0][1]["enable_cuda_graph"] == "1"
        self._model = model
        provider.opened.append(self._captures)
        self._real = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._runs: dict[object, int] = {}
        self._tables: list[_Tables] = []
        self._arena: list[int] = []
        self._grow(len(model) + _outside(model))
        finalize(self, _give_back, self._cuda, self._arena)

    def get_providers(self) -> list[str]:
        return [self._provider.took, "CPUExecutionProvider"]

    def get_outputs(self) -> list[Any]:
        found: list[Any] = self._real.get_outputs()
        return found

    def get_inputs(self) -> list[Any]:
        found: list[Any] = self._real.get_inputs()
        return found

    def get_overridable_initializers(self) -> list[Any]:
        found: list[Any] = self._real.get_overridable_initializers()
        return found

    def io_binding(self) -> FakeIOBinding:
        return FakeIOBinding(self, {each.name: _TYPES[each.type] for each in self.get_outputs()})

    def run_with_iobinding(self, iobinding: FakeIOBinding, run_options: Any = None) -> None:
        assert iobinding.session is self
        # It would capture a graph of its own otherwise, which waits at every replay.
        assert run_options.get_run_config_entry("gpu_graph_id") == "-1"
        entry = "disable_synchronize_execution_providers"
        waits = run_options.get_run_config_entry(entry) == "0"
        known = {each.name for each in (*self.get_inputs(), *self.get_overridable_initializers())}
        if unknown := iobinding.bound_inputs.keys() - known:
            raise Fail(f"INVALID_ARGUMENT : Invalid Feed Input Name:{min(unknown)}")
        shapes = tuple((name, bound.shape) for name, bound in iobinding.bound_inputs.items())
        capturing = self._cuda.is_capturing(self._stream)
        self._provider.captured_plain_sessions += capturing and not self._captures
        if capturing and (refusal := self._provider.in_capture(self._model, self._stream)):
            raise Fail(refusal)
        self._runs[shapes] = self._runs.get(shapes, 0) + 1
        if self._runs[shapes] <= self._provider.growing:
            self._grow(ARENA)
        self._provider.ran.append(self._model)
        self._check("Slice", self._provider.runtime.last_error())
        tables = self._tables_of(shapes, capturing=capturing)
        work = self._work(iobinding, tables, capturing=capturing)
        self._check("Add", self._provider.runtime.launch(self._stream, work))
        if waits:
            self._check("Sync", self._provider.runtime.synchronize(self._stream))

    def _grow(self, size: int) -> None:
        code, address = self._provider.runtime.malloc(size)
        if code:
            raise Fail(
                "Non-zero status code returned while running NhwcConv node. Name:'conv2d.last' "
                f"Status Message: Failed to allocate memory for requested buffer of size {size}"
            )
        self._arena.append(address)

    def _tables_of(self, shapes: object, *, capturing: bool) -> _Tables:
        made = _Tables(shapes)
        if capturing:
            self._tables.append(made)
        elif not self._provider.keeps_tables:
            # A run at other shapes puts its own tables where those of a captured one were.
            for each in self._tables:
                each.lost = each.lost or each.shapes != shapes
        return made

    def _work(self, iobinding: FakeIOBinding, tables: _Tables, *, capturing: bool) -> Work:
        inputs, outputs = dict(iobinding.bound_inputs), dict(iobinding.bound_outputs)
        cuda, real, lives = self._cuda, self._real, ref(self)

        def work() -> None:
            if capturing and lives() is None:
                # What was captured reads weights that went with their session.
                cuda.view(1, 1)
                return
            values = {name: _value(cuda, bound) for name, bound in inputs.items()}
            made = real.run(list(outputs), values)
            iobinding.made = dict(zip(outputs, made, strict=True))
            for (_, bound), array in zip(outputs.items(), made, strict=True):
                if bound is not None:
                    target = cuda.view(bound.address, array.nbytes)
                    right = array.tobytes()
                    target[:] = np.frombuffer(right[::-1] if tables.lost else right, np.uint8)

        return work

    def _check(self, operator: str, code: FakeError) -> None:
        if code:
            raise Fail(
                f"Non-zero status code returned while running {operator} node. "
                f"Name:'{operator.lower()}_1' Status Message: CUDA error {code.name}"
            )


def _value(cuda: FakeCuda, bound: _Bound) -> Any:
    size = int(np.prod(bound.shape)) * np.dtype(bound.element).itemsize
    return cuda.view(bound.address, size).copy().view(bound.element).reshape(bound.shape)


def _outside(model: bytes) -> int:
    """The bytes of the weights that lie outside of a model, all of which go onto the device."""
    return sum(
        int(entry.value)
        for tensor in onnx.load_model_from_string(model).graph.initializer
        for entry in tensor.external_data
        if entry.key == "length"
    )


def _give_back(cuda: FakeCuda, addresses: list[int]) -> None:
    for address in addresses:
        cuda.cudaFree(address)


def fake_onnxruntime(provider: FakeProvider) -> Any:
    """The module, whose sessions are the provider's."""

    def session(model: Any, options: Any, providers: list[Any], enable_fallback: int = 1) -> Any:
        if providers == ["CPUExecutionProvider"]:
            return onnxruntime.InferenceSession(model, options, providers=providers)
        if providers[0][1]["enable_cuda_graph"] == "1" and not provider.captures:
            raise Fail("This session cannot use the graph\ncapture feature")
        if provider.refusal and not enable_fallback:
            raise RuntimeError(provider.refusal)
        if provider.refusal:
            provider.took = "CPUExecutionProvider"
        return FakeSession(provider, model, options, providers)

    made: Callable[..., Any] = session
    return SimpleNamespace(
        InferenceSession=made,
        RunOptions=onnxruntime.RunOptions,
        SessionOptions=onnxruntime.SessionOptions,
        OrtValue=onnxruntime.OrtValue,
        cuda_version="",
    )
