"""Stands in for engines on a device: a run is done when its outputs are read, and not before."""

from collections.abc import Mapping

from runtime.backends.low_rank import Weights
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import Array, Engine, Started
from runtime.package.manifest import ModelPackage


class DeferredEngine:
    """A role's engine on the CPU that computes late, and writes down what is asked of it."""

    def __init__(self, engine: Engine, role: str, said: list[tuple[str, str]]) -> None:
        """`said` takes pairs of a verb, "start" or "read", and the role."""
        self._engine = engine
        self._role = role
        self._said = said

    def start(self, inputs: Mapping[str, Array]) -> Started:
        self._said.append(("start", self._role))
        kept = {name: array.copy() for name, array in inputs.items()}

        def read() -> dict[str, Array]:
            self._said.append(("read", self._role))
            return self._engine.run(kept)

        return read

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.start(inputs)()

    def replace_weights(self, weights: Weights) -> None:
        self._engine.replace_weights(weights)

    def close(self) -> None:
        self._engine.close()


class DeferringCpu(OnnxRuntimeCpu):
    """The backend of the CPU with deferred engines."""

    def __init__(self, package: ModelPackage) -> None:
        super().__init__(package)
        self.said: list[tuple[str, str]] = []
        """Calls to all engines, in order: "start" or "read", and the role."""

    def open(self, role: str) -> Engine:
        return DeferredEngine(super().open(role), role, self.said)
