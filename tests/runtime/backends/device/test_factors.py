"""Factors side by side, as the kernel reads them."""

from itertools import pairwise

import pytest

from runtime.backends.device.factors import PRODUCT, Batch, batches
from tests.runtime.backends.device.updates import update

UPDATES = {
    "one": update("F16", 5, 7, {3: "F16"}),
    "two": update("F32", 4, 4, {1: "F32", 2: "F16"}),
    "three": update("BF16", 9, 2, {8: "F32"}),
}


def test_nothing_overlaps_and_all_is_aligned() -> None:
    batch = Batch(UPDATES)
    arrays, firsts = batch.laid()
    begins = sorted(arrays)
    ends = [begin + arrays[begin].nbytes for begin in begins]
    assert all(
        end <= begin for end, begin in zip(ends, [*begins[1:], batch.size_bytes], strict=True)
    )
    assert all(begin % 16 == 0 for begin in begins)
    assert firsts == {"one": 0, "two": 1, "three": 3}


def test_the_table_names_each_products_factors() -> None:
    batch = Batch(UPDATES)
    arrays, _ = batch.laid()
    table = arrays[0]
    assert table.dtype == PRODUCT
    for row, product in zip(table, batch.products, strict=True):
        assert arrays[row["up"]] is product.up.values
        assert arrays[row["down"]] is product.down.values
        assert (row["rank"], row["scale"]) == (len(product.down.values), product.scale)


@pytest.mark.parametrize("most", [0, 300, 600, 10**6])
def test_a_batch_is_no_larger_than_asked_for_but_for_a_single_update(most: int) -> None:
    made = list(batches(UPDATES, most))
    assert [name for batch in made for name in batch.updates] == list(UPDATES)
    assert all(batch.size_bytes <= most or len(batch.updates) == 1 for batch in made)
    assert all(a.size_bytes + b.size_bytes > most for a, b in pairwise(made))


def test_no_update_makes_no_batch() -> None:
    assert list(batches({}, 100)) == []
