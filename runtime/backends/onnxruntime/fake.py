"""Stands in for ONNX Runtime's CUDA provider: its sessions over the memory of the fake of CUDA.

What it computes is computed by ONNX Runtime on the CPU, at the addresses that were bound when it
was enqueued. A test holds its methods to the real ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from weakref import finalize

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from runtime.backends.device.cuda_fake import FakeCuda

_ELEMENTS = {1: np.float32, 10: np.float16, 16: np.uint16}
_TYPES = {"tensor(float)": 1, "tensor(uint8)": 2, "tensor(int64)": 7}


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

    def __init__(self, outputs: dict[str, int]) -> None:
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
        element = _ELEMENTS.get(element_type, element_type)
        self.bound_inputs[name] = _Bound(element, tuple(shape), buffer_ptr)

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
        self, cuda: FakeCuda, took: str, model: bytes, options: Any, providers: list[Any]
    ) -> None:
        self._cuda = cuda
        self._took = took
        self._stream = int(providers[0][1]["user_compute_stream"])
        self._captures = providers[0][1]["enable_cuda_graph"]
        self._real = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        _, weights = cuda.cudaMalloc(len(model))
        finalize(self, cuda.cudaFree, weights)

    def get_providers(self) -> list[str]:
        return [self._took, "CPUExecutionProvider"]

    def get_outputs(self) -> list[Any]:
        found: list[Any] = self._real.get_outputs()
        return found

    def io_binding(self) -> FakeIOBinding:
        return FakeIOBinding({each.name: _TYPES[each.type] for each in self.get_outputs()})

    def run_with_iobinding(self, iobinding: FakeIOBinding, run_options: Any = None) -> None:
        inputs, outputs = dict(iobinding.bound_inputs), dict(iobinding.bound_outputs)
        # It would capture a graph of its own otherwise, which waits at every replay.
        assert run_options.get_run_config_entry("gpu_graph_id") == "-1"
        # It waits for the device otherwise, which ends a capture; without, pinned memory is lost.
        entry = "disable_synchronize_execution_providers"
        assert run_options.get_run_config_entry(entry) == self._captures

        def work() -> None:
            values = {name: self._value(bound) for name, bound in inputs.items()}
            made = self._real.run(list(outputs), values)
            iobinding.made = dict(zip(outputs, made, strict=True))
            for (_, bound), array in zip(outputs.items(), made, strict=True):
                if bound is not None:
                    target = self._cuda.view(bound.address, array.nbytes)
                    target[:] = np.frombuffer(array.tobytes(), np.uint8)

        self._cuda.enqueue(self._stream, work)
        if run_options.get_run_config_entry(entry) == "0":
            self._cuda.cudaStreamSynchronize(self._stream)

    def _value(self, bound: _Bound) -> Any:
        size = int(np.prod(bound.shape)) * np.dtype(bound.element).itemsize
        content = self._cuda.view(bound.address, size)
        return content.copy().view(bound.element).reshape(bound.shape)


def fake_onnxruntime(cuda: FakeCuda, took: str, *, captures: bool = True, refusal: str = "") -> Any:
    """The module, whose sessions say that they took the provider `took`.

    Without `captures` it refuses to open a session that is to capture graphs. With a `refusal`
    that is what its provider says to all.
    """

    def session(
        model: bytes, options: Any, providers: list[Any], enable_fallback: int = 1
    ) -> FakeSession:
        if providers[0][1]["enable_cuda_graph"] == "1" and not captures:
            raise Fail("This session cannot use the graph\ncapture feature")
        if refusal and not enable_fallback:
            raise RuntimeError(refusal)
        actual = "CPUExecutionProvider" if refusal else took
        return FakeSession(cuda, actual, model, options, providers)

    made: Callable[..., FakeSession] = session
    return SimpleNamespace(
        InferenceSession=made,
        RunOptions=onnxruntime.RunOptions,
        SessionOptions=onnxruntime.SessionOptions,
        cuda_version="",
    )
