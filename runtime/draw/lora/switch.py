"""The switch that puts LoRA sets on an open network, for every backend."""

from typing import Protocol

from runtime.backends.low_rank import Weights
from runtime.draw.lora.weights import EffectiveWeights
from runtime.package.pack import LoraSet


class Adaptable(Protocol):
    """A network whose weights can be replaced: an Engine, or a Denoiser around one."""

    def replace_weights(self, weights: Weights) -> None:
        """Use these weights from the next run on, and the package's own for all others."""
        ...


class LoraSwitch:
    """One network, and the LoRA set that is on the network."""

    def __init__(self, effective: EffectiveWeights, role: str, network: Adaptable) -> None:
        """The network is as it was opened, without LoRAs."""
        self._effective = effective
        self._role = role
        self._network = network
        self.loaded: LoraSet | None = ()
        """None: unknown, since a switch failed halfway."""

    def apply(self, loras: LoraSet) -> None:
        """Let exactly this set act.

        Raises PackageError, with the network unchanged, and BackendError, with the set unknown.
        """
        if loras == self.loaded:
            return
        weights = self._effective.of(loras, self._role)
        self.loaded = None
        self._network.replace_weights(weights)
        self.loaded = loras
