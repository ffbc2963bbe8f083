"""The replaced weights of an open engine, always made from the package's own weights.

An engine keeps the values that were written into it. So each replacement writes the union of the
weights replaced before and of the new set, each with its value in the new set or else with the
package's own: no value of the set before stays.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from runtime.backends.low_rank import LowRankUpdate, Weight, Weights
from runtime.package.manifest import ModelPackage
from runtime.package.tensors import Tensor


class ReplacedWeights:
    """The weights of one role's engine that may hold something else than the package's own."""

    def __init__(self, package: ModelPackage, role: str) -> None:
        """The engine is as it was opened: all of its weights are the package's."""
        self._package = package
        self._role = role
        self._names: frozenset[str] = frozenset()
        self._own: Mapping[str, Tensor] | None = None
        """The package's weights; None until the first one is read."""

    @contextmanager
    def union(self, weights: Weights) -> Iterator[dict[str, Weight]]:
        """The values to write, by sorted name, so that exactly `weights` are replaced.

        The block writes the values; if the block fails, the next union has all these names too.
        """
        self._names |= weights.keys()
        yield {name: self.weight(name, weights) for name in sorted(self._names)}
        self._names = frozenset(weights)

    def weight(self, name: str, weights: Weights) -> Weight:
        """A weight as `weights` has it, or else the package's own: an update without products."""
        if name in weights:
            return weights[name]
        if self._own is None:
            self._own = self._package.tensors(self._role)
        return LowRankUpdate(self._own[name], ())
