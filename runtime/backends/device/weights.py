"""Writes weights into the device's memory; low-rank updates are multiplied there.

An update takes its two factors, a hundredth of a weight's size, which go up many together, and the
package's own weight, which is uploaded as it is stored, once where there is room to keep a copy.
The sum is never in host memory.
"""

from collections.abc import Mapping
from ctypes import c_int, c_void_p
from pathlib import Path

from runtime.backends.device.bases import KeptBases
from runtime.backends.device.device import Device
from runtime.backends.device.factors import DTYPES, Batch, batches
from runtime.backends.device.staging import PIECE, Uploads
from runtime.backends.device.stream import Stream
from runtime.backends.low_rank import LowRankUpdate, Weight, Weights, base_of

KERNELS = Path(__file__).parent / "kernels" / "low_rank.ptx"

# These follow low_rank.cu: its kernel, and the part of a weight that a block computes.
_NAME = "low_rank"
_TYPES = (*[c_void_p] * 3, *[c_int] * 5)
_THREADS = 64
_ROWS, _COLUMNS = 8, 4 * _THREADS


class DeviceWeights:
    """Writes weights to addresses on the device, in the order of a stream. For one thread."""

    def __init__(self, device: Device, stream: Stream, bases: KeptBases) -> None:
        """The kernel is loaded with the device's first low-rank update."""
        self._device = device
        self._stream = stream
        self._uploads = Uploads(device.pinned, stream)
        self._bases = bases

    def write(self, weights: Weights, places: Mapping[str, int]) -> None:
        """Write each weight to its address, and wait. Raises BackendError where the device's memory
        does not hold the factors.
        """
        updates = {
            name: weight
            for name, weight in weights.items()
            if isinstance(weight, LowRankUpdate) and weight.products
        }
        rounds = list(batches(updates, PIECE))
        if rounds:
            # Before any base is kept: then these take no memory that could be given back.
            self._device.module(KERNELS)
        # The stream keeps the order, so that all rounds share the memory for factors.
        most = max((batch.size_bytes for batch in rounds), default=0)
        factors = self._device.cuda.allocate(most, "LoRA factors")
        try:
            with self._bases.held() as kept:
                self._keep({name: each for name, each in updates.items() if name not in kept})
                for name, weight in weights.items():
                    self._put(weight, places[name], kept.get(name))
                for batch in rounds:
                    reads = {name: kept.get(name, places[name]) for name in batch.updates}
                    self._add(batch, factors.address, reads, places)
                self._uploads.close()
                self._stream.synchronize()
        finally:
            self._device.cuda.free(factors)

    def _keep(self, updates: Mapping[str, LowRankUpdate]) -> None:
        """Upload the bases that there is room to keep."""
        for name, address in (self._bases.room(updates) if updates else {}).items():
            self._uploads.put(updates[name].base.values, address)
            self._uploads.end_round()
            self._bases.add(name, address)

    def _put(self, weight: Weight, address: int, kept: int | None) -> None:
        """Write a weight, of an update the base alone: nothing where that is kept elsewhere."""
        if isinstance(weight, LowRankUpdate) and kept is not None:
            if not weight.products:
                self._stream.copy(address, kept, weight.base.size_bytes)
            return
        self._uploads.put(base_of(weight).values, address)
        self._uploads.end_round()

    def _add(
        self, batch: Batch, at: int, reads: Mapping[str, int], places: Mapping[str, int]
    ) -> None:
        """Add updates to the bases that lie at `reads`, with their factors at `at`."""
        kernels = self._device.module(KERNELS)
        arrays, firsts = batch.laid()
        self._uploads.put_together(arrays, at)
        for name, update in batch.updates.items():
            outputs, inputs = update.products[0].shape
            products = at, firsts[name], len(update.products)
            size = outputs, inputs, DTYPES[update.base.dtype]
            values = places[name], reads[name], *products, *size
            grid = -(-inputs // _COLUMNS), -(-outputs // _ROWS)
            kernels.launch(_NAME, self._stream, grid, _THREADS, (values, _TYPES))
        self._uploads.end_round()
