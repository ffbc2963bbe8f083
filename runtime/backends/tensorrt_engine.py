"""A role's engine on the device, and one that takes and gives arrays of the host."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping

import numpy as np

from runtime.backends.profiles import Profiles, Shape
from runtime.backends.protocol import Array
from runtime.backends.staging import PinnedPool, Uploads, reading
from runtime.backends.tensorrt_call import Call
from runtime.backends.tensorrt_refit import Refit
from runtime.backends.tensorrt_vendor import Contexts, Vendor
from runtime.manifest import BATCH, InputRecord, ModelPackage
from runtime.target import Target
from runtime.tensors import Tensor

_CALLS = 16
"""Shapes of an engine that are kept ready; the one that was used longest ago makes room."""


class DeviceEngine:
    """One engine with a stream of its own. For one thread at a time."""

    def __init__(
        self, vendor: Vendor, package: ModelPackage, target: Target, role: str, *, urgent: bool
    ) -> None:
        """Open it: its weights go to the device. Raises BackendError."""
        record, identity = package.manifest.roles[role], target.record.identity.engines[role]
        self._vendor = vendor
        self._role = role
        self._target = target
        self.stream = vendor.cuda.stream(urgent=urgent)
        self.profiles = Profiles(
            role, record.inputs, identity.profiles, package.manifest.latents.scale_factor
        )
        path = target.engine(role)
        self._engine = vendor.deserialize(path, role)
        kernels = path.with_suffix(f".{identity.precision}.kernels")
        self._contexts = Contexts(vendor, self._engine, role, kernels)
        self._refit = Refit(vendor, self._engine, package, target, role)
        self._calls: OrderedDict[tuple[tuple[str, Shape], ...], Call] = OrderedDict()

    @property
    def pinned(self) -> PinnedPool:
        """Where blocks for copies come from."""
        return self._vendor.pinned

    def profile(self, shapes: Mapping[str, Shape]) -> int:
        """The profile for these shapes. Raises BackendError that says how to get one."""
        remedy = (
            "compile one that does, with --sizes and --max-batch "
            f"(this is of: {self._target.record.command}), or draw with --backend onnxruntime-cpu"
        )
        return self.profiles.index(shapes, remedy)

    def call(self, shapes: Mapping[str, Shape]) -> Call:
        """The call at these shapes, made at the first use. Raises BackendError."""
        key = tuple(sorted(shapes.items()))
        found = self._calls.get(key)
        if found is not None:
            self._calls.move_to_end(key)
            return found
        profile = self.profile(shapes)
        if len(self._calls) == _CALLS:
            self.stream.synchronize()
            _, oldest = self._calls.popitem(last=False)
            oldest.free()
        made = Call(self._vendor, self._engine, self._contexts, self.stream, self._role)
        made.prepare(profile, shapes)
        self._calls[key] = made
        return made

    def replace_weights(self, weights: Mapping[str, Tensor]) -> None:
        """As of an Engine. Waits for the device. Raises BackendError."""
        self._refit.replace(weights, self.stream)
        for call in self._calls.values():
            call.forget_graph()


class TensorRtEngine:
    """An Engine: named arrays of the host in, named arrays out."""

    def __init__(self, engine: DeviceEngine, inputs: Mapping[str, InputRecord]) -> None:
        """`inputs` are those of the role, as the manifest has them."""
        self._engine = engine
        self._inputs = inputs
        self._uploads = Uploads(engine.pinned, engine.stream)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run it, a batch that is larger than any profile's in pieces. Raises BackendError."""
        made = [self._run(piece) for piece in self._pieces(inputs)]
        return {name: np.concatenate([outputs[name] for outputs in made]) for name in made[0]}

    def replace_weights(self, weights: Mapping[str, Tensor]) -> None:
        """From now on these weights hold, and the package's own for all others."""
        self._engine.replace_weights(weights)

    def _pieces(self, inputs: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
        batched = [name for name, record in self._inputs.items() if record.shape[0] == BATCH]
        most = self._engine.profiles.largest(BATCH)
        if most is None or not batched:
            yield inputs
            return
        for begin in range(0, len(inputs[batched[0]]), most):
            yield {
                name: array[begin : begin + most] if name in batched else array
                for name, array in inputs.items()
            }

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        call = self._engine.call({name: array.shape for name, array in inputs.items()})
        for name, array in inputs.items():
            buffer = call.inputs[name]
            self._uploads.put(array.astype(buffer.dtype, copy=False), buffer.memory.address)
        self._uploads.end_round()
        call.run()
        readings = {
            name: reading(self._engine.pinned, self._engine.stream, buffer)
            for name, buffer in call.outputs.items()
        }
        return {name: read() for name, read in readings.items()}
