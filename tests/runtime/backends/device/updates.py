"""Random low-rank updates."""

from collections.abc import Mapping

import numpy as np

from runtime.backends.low_rank import LowRankUpdate, Product
from runtime.package.tensors import Tensor, stored


def update(dtype: str, outputs: int, inputs: int, ranks: Mapping[int, str]) -> LowRankUpdate:
    """An update of a weight `[outputs, inputs]`: a product of each rank, its factors in a dtype."""
    draw = np.random.default_rng(outputs * inputs + sum(ranks))

    def random(stored_as: str, *shape: int) -> Tensor:
        return Tensor(stored_as, stored(draw.standard_normal(shape).astype(np.float32), stored_as))

    products = (
        Product(random(each, outputs, rank), random(each, rank, inputs), 0.5 ** rank.bit_length())
        for rank, each in ranks.items()
    )
    return LowRankUpdate(random(dtype, outputs, inputs), tuple(products))
