"""Seconds of a launch by the quantity that limits the launch."""

from dataclasses import replace

import pytest

from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.launches import Launch, Product, seconds

H200 = GPUS["h200"]
TILE = 2 * 128 * 256
BEGIN = H200.fixed + H200.ramp


def test_a_kernel_that_does_nothing_takes_the_fixed_time() -> None:
    assert seconds(Launch("x"), H200) == H200.fixed


def test_a_fraction_of_a_launch_takes_that_fraction() -> None:
    assert seconds(Launch("x", launches=0.25), H200) == H200.fixed / 4


def test_bytes_beyond_the_cache_come_from_memory() -> None:
    size = H200.l2_bytes
    inside, beyond = (seconds(Launch("x", bytes=each), H200) for each in (size, size + 1))
    assert inside == pytest.approx(H200.fixed + size / H200.l2_bandwidth)
    assert beyond == pytest.approx(H200.fixed + size / H200.bandwidth)
    assert seconds(Launch("x", bytes=size + 1), GPUS["h100"]) > beyond


def test_the_slowest_quantity_counts_and_those_of_a_thread_add_up() -> None:
    threads = Launch("x", bytes=8, accesses=10**9, indices=10**9, instructions=10**9)
    expected = 1e9 * (H200.access + H200.index + 1 / H200.instructions)
    assert seconds(threads, H200) == pytest.approx(H200.fixed + expected)


def test_a_wave_of_few_tiles_takes_as_long_as_a_full_wave() -> None:
    one, full, more = (
        seconds(Launch("x", product=Product(128 * rows, 256, 4096)), H200) - BEGIN
        for rows in (66, 132, 133)
    )
    tile = TILE * 4096 / (H200.rates["products"] / H200.multiprocessors)
    assert full == pytest.approx(tile)
    assert one == pytest.approx(tile / 2)  # Two half tiles in place of each: a full wave too.
    assert more > 1.1 * full


def test_products_of_four_bytes_run_at_half_the_speed() -> None:
    product = Product(8192, 8192, 8192)
    narrow = seconds(Launch("x", product=product), H200) - BEGIN
    wide = seconds(Launch("x", product=replace(product, size=4)), H200) - BEGIN
    assert wide == pytest.approx(2 * narrow, rel=1e-3)


def test_a_large_product_is_as_fast_as_one_that_was_timed_alone() -> None:
    """One alone, that is for a moment, where the products of a step are slower."""
    product = Product(8192, 8192, 8192)
    assert product.flops / seconds(Launch("x", product=product), H200) == pytest.approx(
        790e12, rel=0.04
    )


def test_no_product_passes_the_fastest_rate() -> None:
    limited = replace(H200, fastest=100e12)
    product = Product(8192, 8192, 8192)
    found = seconds(Launch("x", product=product), limited) - H200.fixed
    assert found == pytest.approx(product.flops / 100e12)


def test_an_attention_takes_the_rate_of_its_kernel() -> None:
    tiles, narrow, told, wide = (
        seconds(Launch("x", attention=1e12, rate=rate), H200)
        for rate in (
            "attention by tiles of 32", "attention", "attention of 128, keys told",
            "attention of 128",
        )
    )  # fmt: skip
    assert wide < told < narrow < tiles


def test_reads_that_wait_for_one_another_take_a_latency_each() -> None:
    waiting = seconds(Launch("x", bytes=8, waits=2048), H200)
    assert waiting == pytest.approx(H200.fixed + 2048 * H200.latency)


def test_a_block_in_phases_hides_a_part_of_the_shorter_quantity_alone() -> None:
    hidden = Launch("x", bytes=10**9, instructions=10**9)
    shown = seconds(replace(hidden, in_phases=True), H200) - seconds(hidden, H200)
    assert shown == pytest.approx(H200.unhidden * 1e9 / H200.instructions)
