"""Puts LoRA sets on an open network: the one way, whatever backend runs it."""

from typing import Protocol

from runtime.backends.low_rank import Weights
from runtime.draw.lora.weights import EffectiveWeights
from runtime.package.pack import LoraSet


class Adaptable(Protocol):
    """A network whose weights can be replaced: an Engine, or a Denoiser around one."""

    def replace_weights(self, weights: Weights) -> None:
        """From now on these weights hold, and the package's own for all others."""
        ...


class LoraSwitch:
    """One network, and the set that is on it."""

    def __init__(self, effective: EffectiveWeights, role: str, network: Adaptable) -> None:
        """The network is as it was opened: no set is on it."""
        self._effective = effective
        self._role = role
        self._network = network
        self.loaded: LoraSet | None = ()
        """None: not known, since putting one on failed halfway."""

    def apply(self, loras: LoraSet) -> None:
        """Let exactly this set act.

        Raises PackageError, and then nothing has changed, and BackendError.
        """
        if loras == self.loaded:
            return
        weights = self._effective.of(loras, self._role)
        self.loaded = None
        self._network.replace_weights(weights)
        self.loaded = loras
