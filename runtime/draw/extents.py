"""Text filled up to one of few extents, for backends on which a new shape of inputs is dear.

A manifest names the extents of an axis along which a graph gives the same, whatever lies behind a
text. Every other extent would be a call of its own: buffers, plain runs, a CUDA graph.
"""

from collections.abc import Mapping

import numpy as np

from runtime.backends.low_rank import Weights
from runtime.backends.protocol import Array, Engine, Started
from runtime.package.manifest import RoleRecord


def extents_of(record: RoleRecord) -> tuple[int, ...]:
    """The extents that a role's record names, the least first; empty where it names none."""
    return tuple(sorted({extent for axis in record.axes.values() for extent in axis.extents}))


def filled(arrays: Mapping[str, Array], record: RoleRecord, least: int = 1) -> dict[str, Array]:
    """A role's inputs, by name, with zeros behind each up to the next extent from `least` on that
    the record names. An axis without such an extent stays as it is.
    """
    return {name: _filled(array, name, record, least) for name, array in arrays.items()}


def _filled(array: Array, name: str, record: RoleRecord, least: int) -> Array:
    missing = []
    for axis, length in zip(record.inputs[name].shape, array.shape, strict=True):
        extents = record.axes[axis].extents if isinstance(axis, str) else ()
        wider = (extent for extent in extents if extent >= max(length, least))
        missing.append((0, next(wider, length) - length))
    return np.pad(array, missing) if any(count for _, count in missing) else array


class FilledEngine:
    """An Engine whose inputs are filled up. Outputs are as long as the filled inputs."""

    def __init__(self, engine: Engine, record: RoleRecord) -> None:
        """`record` is that of the engine's role."""
        self._engine = engine
        self._record = record

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """As the engine's own."""
        return self._engine.start(filled(inputs, self._record))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As the engine's own."""
        return self._engine.run(filled(inputs, self._record))

    def replace_weights(self, weights: Weights) -> None:
        """As the engine's own."""
        self._engine.replace_weights(weights)

    def close(self) -> None:
        """As the engine's own."""
        self._engine.close()


def warm_up(engine: Engine, record: RoleRecord) -> None:
    """Run a role's engine on zeros at each extent that its record names. Raises BackendError."""
    shortest = {
        name: np.zeros([each if isinstance(each, int) else 1 for each in given.shape], given.dtype)
        for name, given in record.inputs.items()
    }
    for extent in extents_of(record):
        engine.run(filled(shortest, record, extent))
