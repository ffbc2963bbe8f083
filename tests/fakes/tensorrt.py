"""Stands in for TensorRT where there is no GPU: an engine is a package's graph in ONNX Runtime.

Its plans are JSON: package, role, profiles by axis, and the weights that can be replaced.
It computes on the memory of `tests.fakes.cuda`, when that gets to it. It grants no
more than TensorRT promises: a context that was captured is not to be changed, a graph that was
captured before a refit may go on with the weights of that time, and a refit reads whatever is still
set, at the address where it was. A test holds its methods to those of the real binary.
"""

import ctypes
import json
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet, finalize

import numpy as np

from runtime.backends.onnxruntime.cpu import OnnxEngine
from runtime.package.manifest import InputRecord, ModelPackage, read_manifest
from runtime.package.tensors import Tensor
from tests.fakes.cuda import FakeCuda

if TYPE_CHECKING:
    from runtime.backends.tensorrt.flavour import Api

_WORKSPACE = 1 << 16


class FakeDataType(Enum):
    """By the vendor's names, as safetensors and NumPy name them."""

    FLOAT = ("F32", "<f4")
    HALF = ("F16", "<f2")
    BF16 = ("BF16", "<u2")
    INT64 = ("I64", "<i8")
    UINT8 = ("U8", "|u1")


class FakeLogger:
    """`ILogger`."""

    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3

    def log(self, severity: Any, msg: str) -> None:
        """For subclasses."""


class FakeMode(Enum):
    """`TensorIOMode`."""

    INPUT = 1
    OUTPUT = 2


class FakeAllocation(Enum):
    """`ExecutionContextAllocationStrategy`."""

    STATIC = 0
    USER_MANAGED = 2


class FakeSpecialization(Enum):
    """`DynamicShapesKernelSpecializationStrategy`."""

    LAZY = 0
    EAGER = 1


class FakeLocation(Enum):
    """`TensorLocation`."""

    DEVICE = 0
    HOST = 1


class FakeWeights:
    """`Weights` at an address; not copied, as the vendor's are not."""

    def __init__(self, type: FakeDataType, ptr: int, count: int) -> None:  # noqa: A002
        self.dtype = type
        self.size = count
        self._address = ptr

    def tensor(self, shape: tuple[int, ...], location: FakeLocation, cuda: FakeCuda) -> Tensor:
        """The values at this address now."""
        name, stored = self.dtype.value
        size = self.size * np.dtype(stored).itemsize
        if location is FakeLocation.DEVICE:
            content = cuda.view(self._address, size).tobytes()
        else:
            content = ctypes.string_at(self._address, size)
        return Tensor(name, np.frombuffer(content, stored).reshape(shape))


class FakeRuntimeCache:
    """`IRuntimeCache`."""

    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, blob: bytes) -> bool:
        self.content = bytes(blob)
        return True

    def serialize(self) -> bytes:
        return self.content or b"kernels"


class FakeRuntimeConfig:
    """`IRuntimeConfig`."""

    dynamic_shapes_kernel_specialization_strategy = FakeSpecialization.LAZY

    def __init__(self) -> None:
        self.allocation = FakeAllocation.STATIC
        self.cache: FakeRuntimeCache | None = None

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache()

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self.cache = cache
        return True

    def set_execution_context_allocation_strategy(self, strategy: FakeAllocation) -> None:
        self.allocation = strategy


class FakeEngine:
    """`ICudaEngine`."""

    device_memory_size_v2 = _WORKSPACE

    def __init__(self, cuda: FakeCuda, plan: Mapping[str, Any]) -> None:
        path = Path(plan["package"])
        manifest, digest = read_manifest(path)
        self.cuda = cuda
        self.profiles: list[dict[str, tuple[int, int, int]]] = plan["profiles"]
        self.refittable_names: list[str] = plan["refittable"]
        self.record = manifest.roles[plan["role"]]
        self.onnx = OnnxEngine(ModelPackage(path, manifest, digest), plan["role"], 1)
        self.weights: dict[str, Tensor] = {}
        self.fused: list[set[str]] = []
        """Weights that can only be replaced together, as tests say."""
        self.refits: list[frozenset[str]] = []
        """The weights that each refit wrote."""
        smallest = {name: extents[0] for name, extents in self.profiles[0].items()}
        self._made = self.onnx.run(
            {
                name: np.zeros(
                    [smallest.get(str(each), each) for each in record.shape], record.dtype
                )
                for name, record in self.record.inputs.items()
            }
        )
        self.contexts: WeakSet[FakeContext] = WeakSet()
        """Those that have not been let go of."""
        self.configs: list[FakeRuntimeConfig] = []
        """Options of contexts, for a flavour that compiles at run time."""

    @property
    def num_io_tensors(self) -> int:
        return len(self.record.inputs) + len(self._made)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return [*self.record.inputs, *self._made][index]

    def get_tensor_mode(self, name: str) -> FakeMode:
        return FakeMode.INPUT if name in self.record.inputs else FakeMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> FakeDataType:
        found = self.record.inputs.get(name)
        dtype = np.dtype(found.dtype if found else self._made[name].dtype).str
        return next(each for each in FakeDataType if each.value[1] == dtype)

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig()

    def create_execution_context(
        self,
        strategy: FakeAllocation = FakeAllocation.STATIC,
        runtime_config: FakeRuntimeConfig | None = None,
    ) -> "FakeContext":
        if runtime_config:
            self.configs.append(runtime_config)
            strategy = runtime_config.allocation
        made = FakeContext(self, strategy)
        self.contexts.add(made)
        return made

    def run(self, inputs: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """The graph's outputs with these weights in the place of the package's own."""
        self.onnx.replace_weights(weights)
        return self.onnx.run(inputs)


class FakeContext:
    """`IExecutionContext`."""

    def __init__(self, engine: FakeEngine, allocation: FakeAllocation) -> None:
        self._engine = engine
        self._has_memory = allocation is FakeAllocation.STATIC
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._captured = False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:  # noqa: ARG002
        if self._captured or profile_index >= len(self._engine.profiles):
            raise RuntimeError("Error in set optimization profile async.")
        self._profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        axes = self._engine.profiles[self._profile]
        for axis, extent in zip(self._input(name).shape, shape, strict=True):
            smallest, _, largest = axes[axis] if isinstance(axis, str) else (axis, axis, axis)
            if not smallest <= extent <= largest:
                return False
        self._shapes[name] = shape
        return not self._captured

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self._engine.record.inputs if name not in self._shapes]
        if not missing:
            inputs = {
                name: np.zeros(shape, self._input(name).dtype)
                for name, shape in self._shapes.items()
            }
            found = self._engine.run(inputs, {})
            self._shapes |= {name: array.shape for name, array in found.items()}
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return not self._captured

    def set_device_memory(self, memory: int, size: int) -> None:
        self._engine.cuda.view(memory, size)
        self._has_memory = size >= self._engine.device_memory_size_v2

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cuda = self._engine, self._engine.cuda
        if not self._has_memory or len(self._addresses) != engine.num_io_tensors:
            return False
        addresses, shapes = dict(self._addresses), dict(self._shapes)
        frozen = dict(engine.weights) if cuda.is_capturing(stream_handle) else None
        self._captured = self._captured or frozen is not None

        def work() -> None:
            weights = engine.weights if frozen is None else frozen
            inputs = {
                name: cuda.view(addresses[name], _size(record, shapes[name]))
                .view(record.dtype)
                .reshape(shapes[name])
                for name, record in engine.record.inputs.items()
            }
            for name, array in engine.run(inputs, weights).items():
                cuda.view(addresses[name], array.nbytes)[:] = np.frombuffer(
                    array.tobytes(), np.uint8
                )

        return not cuda.enqueue(stream_handle, work)

    def _input(self, name: str) -> InputRecord:
        return self._engine.record.inputs[name]


class FakeRuntime:
    """`Runtime`."""

    def __init__(self, cuda: FakeCuda, opened: Callable[[FakeEngine], None], logger: Any) -> None:
        self._cuda = cuda
        self._opened = opened
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> FakeEngine | None:
        try:
            plan = json.loads(bytes(serialized_engine))
        except ValueError:
            self._logger.log(FakeLogger.Severity.ERROR, "the plan is\nnone of mine")
            return None
        engine = FakeEngine(self._cuda, plan)
        _, weights = self._cuda.cudaMalloc(len(bytes(serialized_engine)))
        finalize(engine, self._cuda.cudaFree, weights)
        self._opened(engine)
        return engine


class FakeRefitter:
    """`Refitter`."""

    def __init__(self, engine: FakeEngine, logger: Any) -> None:
        self._engine = engine
        self._logger = logger
        self._set: dict[str, tuple[FakeWeights, FakeLocation]] = {}
        self._given: list[FakeWeights] = []
        """Kept as long as it lives itself, as by the vendor's binding."""

    def get_all_weights(self) -> list[str]:
        return list(self._engine.refittable_names)

    def get_missing_weights(self) -> list[str]:
        touched = [names for names in self._engine.fused if names & self._set.keys()]
        return sorted(set().union(*touched) - self._set.keys())

    def set_named_weights(
        self, name: str, weights: FakeWeights, location: FakeLocation = FakeLocation.HOST
    ) -> bool:
        if name not in self._engine.refittable_names:
            self._logger.log(FakeLogger.Severity.ERROR, f"{name} is not refittable")
            return False
        self._set[name] = weights, location
        self._given.append(weights)
        return True

    def unset_named_weights(self, weights_name: str) -> bool:
        return self._set.pop(weights_name, None) is not None

    def refit_cuda_engine_async(self, stream_handle: int) -> bool:
        parameters = {each.initializer: each for each in self._engine.record.parameters.values()}
        if self.get_missing_weights():
            return False
        given = dict(self._set)

        def work() -> None:
            for name, (weights, location) in given.items():
                shape = parameters[name].shape
                self._engine.weights[name] = weights.tensor(shape, location, self._engine.cuda)

        self._engine.refits.append(frozenset(given))
        return not self._engine.cuda.enqueue(stream_handle, work)


def fake_api(cuda: FakeCuda, opened: Callable[[FakeEngine], None] = lambda _: None) -> "Api":
    """The vendor's module over a fake of CUDA; `opened` is told of every engine."""
    names = SimpleNamespace(
        DataType=FakeDataType,
        DynamicShapesKernelSpecializationStrategy=FakeSpecialization,
        ExecutionContextAllocationStrategy=FakeAllocation,
        ILogger=FakeLogger,
        Refitter=FakeRefitter,
        Runtime=partial(FakeRuntime, cuda, opened),
        TensorIOMode=FakeMode,
        TensorLocation=FakeLocation,
        Weights=FakeWeights,
    )
    return cast("Api", names)


def _size(record: InputRecord, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(record.dtype).itemsize
