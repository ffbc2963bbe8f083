"""One engine at one shape: a context, a buffer for every input and output, a CUDA graph.

Buffers are allocated once, and stay where they are: a captured graph fixes its addresses.
"""

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from runtime.backends.device.replay import Graphs, Replay
from runtime.backends.device.staging import Buffer
from runtime.backends.profiles import Shape
from runtime.backends.tensorrt.vendor import Contexts, Vendor
from runtime.errors import DeviceError

if TYPE_CHECKING:
    import tensorrt_rtx as trt

# The vendor's names of the dtypes that our graphs take and give, as NumPy has them.
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32"} | {
    "UINT8": "uint8",
    "BOOL": "bool",
}


class TensorRtCall:
    """Ready to run at one shape, on one stream."""

    def __init__(
        self,
        vendor: Vendor,
        engine: "trt.ICudaEngine",
        contexts: Contexts,
        graphs: Graphs,
        at: str,
    ) -> None:
        """The call has a context of its own: a context must not change once a graph captured it.

        `at` names the shapes, for people. Call `prepare` before any run.
        """
        self._vendor = vendor
        self._engine = engine
        self._contexts = contexts
        self._context = contexts.make()
        self._stream = graphs.stream
        self._role = graphs.role
        self._replay = Replay(graphs, self, at)
        self._taken: tuple[int, Mapping[str, Shape]] | None = None
        self._ran = False
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}

    def prepare(self, profile: int, shapes: Mapping[str, Shape]) -> None:
        """Take this shape: allocate every buffer. Raises BackendError."""
        self._take(profile, shapes)
        self._taken = profile, shapes
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            mode = self._engine.get_tensor_mode(name)
            is_input = mode == self._vendor.api.TensorIOMode.INPUT
            (self.inputs if is_input else self.outputs)[name] = self._buffer(name)
        self._bind()

    def condition(self) -> None:
        """Does nothing: every run computes all of the network."""

    def run(self) -> None:
        """Enqueue the engine: as a graph, where one could be captured and proven."""
        self._replay.run()
        if not self._ran:
            self._ran = True
            self._contexts.keep_kernels()

    def enqueue(self, *, capturing: bool) -> None:  # noqa: ARG002 - the same either way
        """Put the engine on its stream. Raises DeviceError."""
        done = self._context.execute_async_v3(self._stream.address)
        self._vendor.check(done, self._role, "run")

    def open_anew(self) -> None:
        """Take another context, at the same shapes and addresses."""
        assert self._taken is not None, "a call runs once it is prepared"
        self._context = self._contexts.make()
        self._take(*self._taken)
        self._bind()

    def forget_graph(self) -> None:
        """Capture anew at the next run: the vendor does not document that a graph sees weights that
        were replaced after its capture.
        """
        self._replay.forget()

    def free(self) -> None:
        """Give all memory of the call back; the call must not be running."""
        self.forget_graph()
        # `_replay` refers to this call: without the cycle, the context's memory is freed now.
        del self._replay
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            self._vendor.device.cuda.free(buffer.memory)

    def _take(self, profile: int, shapes: Mapping[str, Shape]) -> None:
        try:
            self._set_shapes(profile, shapes)
        except RuntimeError as error:  # Some of the vendor's functions refuse by raising it.
            what = f"profile {profile} with {dict(shapes)}"
            raise DeviceError(
                f"{self._role}: {self._vendor.flavour.name} cannot take {what}: {error}"
            ) from error

    def _set_shapes(self, profile: int, shapes: Mapping[str, Shape]) -> None:
        check, context = self._vendor.check, self._context
        chosen = context.set_optimization_profile_async(profile, self._stream.address)
        check(chosen, self._role, f"take its profile {profile}")
        for name, shape in shapes.items():
            check(context.set_input_shape(name, shape), self._role, f"take {name} {list(shape)}")
        missing = context.infer_shapes()
        check(not missing, self._role, f"do without {', '.join(missing)}")

    def _bind(self) -> None:
        for name, buffer in (self.inputs | self.outputs).items():
            given = self._context.set_tensor_address(name, buffer.memory.address)
            self._vendor.check(given, self._role, f"take the address of {name}")

    def _buffer(self, name: str) -> Buffer:
        extents = self._context.get_tensor_shape(name)
        shape = tuple(extents[at] for at in range(len(extents)))
        dtype = np.dtype(_DTYPES[self._engine.get_tensor_dtype(name).name])
        size = prod(shape) * dtype.itemsize
        return Buffer(self._vendor.device.cuda.allocate(size, "buffers"), shape, dtype)
