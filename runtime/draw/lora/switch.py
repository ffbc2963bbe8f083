"""The switch that puts LoRA sets on an open network, for every backend."""

from typing import Protocol

from runtime.backends.low_rank import Weights
from runtime.draw.lora.weights import EffectiveWeights
from runtime.package.inversion import Rows
from runtime.package.pack import LoraSet


class Adaptable(Protocol):
    """A network whose weights can be replaced: an Engine, or a Denoiser around one."""

    def replace_weights(self, weights: Weights) -> None:
        """Use these weights from the next run on, and the package's own for all others."""
        ...


class LoraSwitch:
    """One network, with the LoRA set and the textual inversions that are on the network."""

    def __init__(self, effective: EffectiveWeights, role: str, network: Adaptable) -> None:
        """The network is as it was opened, without LoRAs."""
        self._effective = effective
        self._role = role
        self._network = network
        self.loaded: LoraSet | None = ()
        """None: unknown, since a switch failed halfway."""
        self._rows: Rows = ()

    def apply(self, loras: LoraSet, rows: Rows = ()) -> None:
        """Let exactly this set act, and these `rows` hold vectors, of which other networks' have
        no effect.

        Raises PackageError, with the network unchanged, and BackendError, with the set unknown.
        """
        own = tuple(row for row in rows if row.role == self._role)
        if loras == self.loaded and own == self._rows:
            return
        weights = self._effective.of(loras, self._role)
        if own:
            weights = self._effective.with_rows(own, weights)
        self.loaded = None
        self._network.replace_weights(weights)
        self.loaded, self._rows = loras, own
