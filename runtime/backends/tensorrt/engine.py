"""A role's engine on the device, by TensorRT."""

from collections.abc import Mapping

from runtime.backends.device.calls import Calls
from runtime.backends.device.replay import Graphs
from runtime.backends.device.staging import PinnedPool
from runtime.backends.device.stream import Stream
from runtime.backends.low_rank import Weights
from runtime.backends.profiles import Profiles, Shape
from runtime.backends.rows import CPU
from runtime.backends.tensorrt.call import TensorRtCall
from runtime.backends.tensorrt.refit import Refit
from runtime.backends.tensorrt.vendor import Contexts, Vendor
from runtime.errors import BackendError, DeviceError
from runtime.package.manifest import BATCH, ModelPackage
from runtime.package.target import Target


class TensorRtEngine:
    """One engine with a stream of its own. For one thread at a time."""

    def __init__(
        self, vendor: Vendor, package: ModelPackage, target: Target, role: str, *, urgent: bool
    ) -> None:
        """Open the role's engine: its weights go to the device. Raises BackendError."""
        record, identity = package.manifest.roles[role], target.record.identity.engines[role]
        self._vendor = vendor
        self._role = role
        self._target = target
        self._profiles = Profiles(
            role, record.inputs, identity.profiles, package.manifest.latents.scale_factor
        )
        path = target.engine(role)
        self._engine, self._weights_bytes = vendor.deserialize(path)
        self.stream = Stream(vendor.device.cuda, urgent=urgent)
        kernels = path.with_suffix(f".{identity.precision}.kernels")
        try:
            self._contexts = Contexts(vendor, self._engine, role, kernels)
        except BackendError:
            # The weights of an engine that lacks a workspace go with this reference.
            del self._engine
            vendor.device.cuda.account("weights", -self._weights_bytes)
            self.stream.close()
            raise
        self._refit = Refit(vendor, self._engine, package, target, role, stream=self.stream)
        self._graphs = Graphs(vendor.device, self.stream, role, noise=0)
        self._calls: Calls[TensorRtCall] = Calls(self.stream)

    @property
    def pinned(self) -> PinnedPool:
        """The pool of pinned blocks for copies."""
        return self._vendor.device.pinned

    @property
    def largest_batch(self) -> int | None:
        """The largest batch that any profile takes; None for a role without a batch axis."""
        return self._profiles.largest(BATCH)

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Raises BackendError, with the remedy, for shapes that no profile takes."""
        self._profile(shapes)

    def call(self, shapes: Mapping[str, Shape]) -> TensorRtCall:
        """The call at these shapes, made at the first use. Raises BackendError."""
        return self._calls.at(shapes, lambda: self._made(shapes))

    def replace_weights(self, weights: Weights) -> None:
        """As `Engine.replace_weights`. Waits for the device. Raises BackendError."""
        self._refit.replace(weights)
        for call in self._calls:
            call.forget_graph()

    def close(self) -> None:
        """Give the device's memory back; the engine cannot be used afterwards."""
        self._calls.free()
        self._contexts.free()
        self._refit.close()
        # The vendor's engine, and its weights, go with the last reference to it.
        del self._calls, self._graphs, self._contexts, self._refit, self._engine
        self._vendor.device.cuda.account("weights", -self._weights_bytes)
        self.stream.close()

    def _made(self, shapes: Mapping[str, Shape]) -> TensorRtCall:
        profile = self._profile(shapes)
        at = self._profiles.words(shapes)
        made = TensorRtCall(self._vendor, self._engine, self._contexts, self._graphs, at)
        try:
            made.prepare(profile, shapes)
        except DeviceError:
            raise
        except BackendError:
            made.free()
            raise
        return made

    def _profile(self, shapes: Mapping[str, Shape]) -> int:
        remedy = (
            "compile one that does, with --sizes and --max-batch "
            f"(this is of: {self._target.record.command}), or draw with --backend {CPU}"
        )
        return self._profiles.index(shapes, remedy)
