"""The factors of low-rank updates side by side in one piece of memory, as the kernel reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from runtime.backends.low_rank import LowRankUpdate, Product
from runtime.backends.protocol import Array

# These follow low_rank.cu: its numbers of dtypes, and its struct of a product.
DTYPES = {"F32": 0, "F16": 1, "BF16": 2}
PRODUCT = np.dtype(
    {
        "names": ["up", "down", "scale", "rank", "dtype"],
        "formats": ["<i8", "<i8", "<f4", "<i4", "<i4"],
        "itemsize": 32,
    }
)

_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Updates by name whose factors lie side by side: a table of all products, then the factors."""

    updates: Mapping[str, LowRankUpdate]

    @property
    def products(self) -> list[Product]:
        """The products of all updates, in order."""
        return [each for update in self.updates.values() for each in update.products]

    @property
    def size_bytes(self) -> int:
        """The bytes that the table and the factors take."""
        return _room(PRODUCT.itemsize * len(self.products)) + sum(map(_bytes, self.products))

    def laid(self) -> tuple[dict[int, Array], dict[str, int]]:
        """Arrays by the offset that each is to have, the table first; and by the name of an update
        the number of its first product in the table.
        """
        products = self.products
        begin = _room(PRODUCT.itemsize * len(products))
        arrays: dict[int, Array] = {}
        rows = []
        for product in products:
            up, down = begin, begin + _room(product.up.size_bytes)
            arrays[up], arrays[down] = product.up.values, product.down.values
            rank, dtype = len(product.down.values), DTYPES[product.up.dtype]
            rows.append((up, down, product.scale, rank, dtype))
            begin += _bytes(product)
        counts = [len(update.products) for update in self.updates.values()]
        firsts = dict(zip(self.updates, accumulate(counts, initial=0), strict=False))
        return {0: np.array(rows, PRODUCT), **arrays}, firsts


def batches(updates: Mapping[str, LowRankUpdate], most: int) -> Iterator[Batch]:
    """The updates in order, in batches of at most `most` bytes, or of one update."""
    batch: dict[str, LowRankUpdate] = {}
    size = 0
    for name, update in updates.items():
        own = sum(PRODUCT.itemsize + _bytes(product) for product in update.products)
        if batch and size + own > most:
            yield Batch(batch)
            batch, size = {}, 0
        batch[name] = update
        size += own
    if batch:
        yield Batch(batch)


def _bytes(product: Product) -> int:
    return _room(product.up.size_bytes) + _room(product.down.size_bytes)


def _room(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
