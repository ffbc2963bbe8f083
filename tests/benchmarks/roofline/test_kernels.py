"""Launches of single operators, by hand-computed quantities."""

import pytest

from benchmarks.roofline.launches import Launch, Product
from runtime.errors import BuildError
from tests.benchmarks.roofline.graphs import found


def launches(text: str, **extents: int) -> list[Launch]:
    return [
        launch
        for cost in found(text, **extents)
        for launch in cost.launches
        if launch.kind != "Memset"
    ]


def test_a_product_of_three_axes_is_one_product_over_all_rows() -> None:
    (launch,) = launches(
        "g (float16[B, 10, 4] x, float16[4, 6] w) => (y) { y = MatMul (x, w) }", B=2
    )
    assert launch.product == Product(M=20, N=6, K=4)
    assert launch.product.flops == 2 * 20 * 6 * 4
    assert launch.bytes == 2 * (20 * 4 + 4 * 6 + 20 * 6)


def test_products_of_batches_are_counted_each() -> None:
    (launch,) = launches(
        "g (float[B, 3, 10, 4] x, float[B, 3, 4, 6] w) => (y) { y = MatMul (x, w) }", B=2
    )
    assert launch.product == Product(M=10, N=6, K=4, batch=6, size=4)


def test_the_bias_of_a_gemm_is_written_before_and_read_by_the_product() -> None:
    filled, product = launches(
        "g (float16[B, 4] x, float16[6, 4] w, float16[6] b) => (y)"
        "{ y = Gemm <transB = 1> (x, w, b) }",
        B=8,
    )
    assert filled.bytes == 2 * 8 * 6
    assert product.product == Product(M=8, N=6, K=4)
    assert product.bytes == 2 * (8 * 4 + 4 * 6 + 2 * 8 * 6)


def test_a_bias_behind_a_product_is_placed_by_divisions() -> None:
    *_, added = launches(
        """g (float16[B, 5, 4] x, float16[4, 4] w) => (y) <float16[4] b = {1, 1, 1, 1}> {
            product = MatMul (x, w)
            y = Add (product, b)
        }""",
        B=2,
    )
    assert (added.kind, added.accesses, added.indices) == ("Add of a bias", 80, 40)


def test_operands_of_one_shape_are_read_in_order() -> None:
    (added,) = launches("g (float16[B, 4] x, float16[B, 4] s) => (y) { y = Add (x, s) }", B=5)
    assert (added.kind, added.accesses, added.indices, added.bytes) == ("Add", 60, 0, 120)


def test_a_convolution_is_a_product_over_windows_and_its_bias_a_kernel() -> None:
    convolved, added = launches(
        "g (float16[B, 8, 8, 4] x, float16[6, 3, 3, 4] w, float16[6] b) => (y)"
        "{ y = com.microsoft.NhwcConv <pads = [1, 1, 1, 1]> (x, w, b) }",
        B=2,
    )
    assert convolved.product == Product(M=2 * 8 * 8, N=6, K=3 * 3 * 4)
    assert added.bytes == 2 * (2 * 2 * 8 * 8 * 6)


def test_an_attention_counts_two_products_over_all_pairs() -> None:
    (launch,) = launches(
        "g (float16[B, 10, 80] q, float16[B, 7, 80] k, float16[B, 7, 80] v) => (y)"
        "{ y = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, v) }",
        B=2,
    )
    assert launch.attention == 4 * 2 * 10 * 7 * 80


@pytest.mark.parametrize(("heads", "rate"), [(2, "attention of 128"), (4, "attention")])
def test_a_bias_on_the_scores_costs_time_and_heads_of_128_take_less(heads: int, rate: str) -> None:
    text = """g (bfloat16[B, 10, 256] q, bfloat16[B, 7, 256] k, bfloat16[B, 1, 10, 7] m) => (y)
        {{ y = com.microsoft.MultiHeadAttention <num_heads = {heads}> (q, k, k{bias}) }}"""
    (plain,) = launches(text.format(heads=heads, bias=""), B=2)
    (biased,) = launches(text.format(heads=heads, bias=', "", "", m'), B=2)
    assert plain.rate == biased.rate == rate
    assert biased.attention > plain.attention
    assert biased.bytes == plain.bytes + 2 * (2 * 10 * 7)


def test_packed_queries_keys_and_values_are_copied_apart() -> None:
    apart, attention = launches(
        "g (float16[B, 10, 2, 3, 40] x) => (y)"
        "{ y = com.microsoft.MultiHeadAttention <num_heads = 2> (x) }",
        B=2,
    )
    assert apart.bytes == 2 * 2 * (2 * 10 * 3 * 80)
    assert attention.attention == 4 * 2 * 10 * 10 * 80


def test_an_attention_that_is_told_its_numbers_of_keys_asks_for_them() -> None:
    (launch,) = launches(
        """g (bfloat16[B, 10, 256] q, bfloat16[B, 7, 256] k, int32[B] n) => (y)
        { y = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, k, "", n) }""",
        B=2,
    )
    assert launch.rate == "attention of 128, keys told"


@pytest.mark.parametrize(("dtype", "width"), [("float", 80), ("float16", 1024)])
def test_wide_heads_and_fp32_are_attended_by_small_tiles(dtype: str, width: int) -> None:
    (launch,) = launches(
        f"g ({dtype}[B, 10, {width}] q, {dtype}[B, 7, {width}] k) => (y)"
        "{ y = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, k) }",
        B=2,
    )
    assert launch.rate == "attention by tiles of 32"
    assert launch.attention == 4 * 2 * 10 * 7 * width


def test_attention_beyond_every_kernel_writes_its_scores() -> None:
    kinds = [
        (each.kind, each.launches)
        for each in launches(
            "g (float[B, 10, 2080] q, float[B, 7, 2080] k, float[B, 7, 2080] v) => (y)"
            "{ y = com.microsoft.MultiHeadAttention <num_heads = 1> (q, k, v) }",
            B=2,
        )
    ]
    assert kinds == [("other", 4), ("attention", 1), ("other", 1), ("attention", 1)]


def test_a_split_into_unequal_parts_copies_tables_and_searches() -> None:
    text = """g (float16[B, 6, 4] x) => (y, z) <int64[2] n = {{{sizes}}}>
        {{ y, z = Split <axis = 1> (x, n) }}"""
    (equal,) = launches(text.format(sizes="3, 3"), B=2)
    searched, copied = launches(text.format(sizes="2, 4"), B=2)
    assert (copied.kind, copied.launches) == ("copy", 8)
    assert searched.instructions > equal.instructions == 0


@pytest.mark.parametrize(("skip", "first"), [(False, 2048 / 16), (True, 2048)])
def test_a_group_norm_of_a_large_picture_waits_at_every_pixel_of_a_block(
    skip: bool, first: float
) -> None:
    name, more = ("SkipGroupNorm", ", x") if skip else ("GroupNorm", "")
    text = f"""g (float16[1, 1024, 1024, 32] x, float[32] w) => (y) {{ y = com.microsoft.{name}
        <groups = 8, activation = 1, channels_last = 1> (x, w, w{more}) }}"""
    _, summed, scaled = found(text)[0].launches
    assert (summed.waits, scaled.waits) == (first, 2048)


def test_a_group_norm_zeroes_sums_and_scales() -> None:
    (cost,) = found(
        "g (float16[B, 4, 4, 32] x, float[32] w, float[32] b) => (y) { y = com.microsoft.GroupNorm"
        "<groups = 8, activation = 1, channels_last = 1> (x, w, b) }",
        B=2,
    )
    zeroed, summed, scaled = cost.launches
    size = 2 * 2 * 4 * 4 * 32
    assert (zeroed.kind, summed.bytes, scaled.bytes) == ("Memset", size, 2 * size)


def test_a_skip_group_norm_reads_the_skip_and_writes_the_sum() -> None:
    text = """g (float16[B, 4, 4, 32] x, float[32] w, float[32] b, float16[B, {rows}, 32] s)
        => (y) {{ y, sum = com.microsoft.SkipGroupNorm
        <groups = 8, activation = 1, channels_last = 1> (x, w, b, s) }}"""
    size = 2 * 2 * 4 * 4 * 32
    (whole,) = found(text.format(rows="4, 4"), B=2)
    (spread,) = found(text.format(rows="1, 1"), B=2)
    assert whole.launches[1].bytes == 3 * size
    assert spread.launches[1].bytes == 2 * size


@pytest.mark.parametrize(("outputs", "tensors"), [("y, m, d, sum", 4), ("y", 3)])
def test_a_skip_norm_writes_the_sum_only_where_the_sum_is_read(outputs: str, tensors: int) -> None:
    (cost,) = found(
        f"""g (float16[B, 5, 8] x, float16[B, 5, 8] s, float16[8] w) => (y, z) {{
            {outputs} = com.microsoft.SkipLayerNormalization (x, s, w)
            z = Relu ({"sum" if "sum" in outputs else "y"})
        }}""",
        B=2,
    )[:1]
    (launch,), (worst,) = cost.launches, cost.worst
    assert launch.bytes == tensors * 2 * (2 * 5 * 8) + 2 * 8
    assert worst.accesses > launch.accesses


def test_a_gated_gelu_reads_twice_what_it_writes() -> None:
    (cost,) = found(
        "g (float16[B, 5, 8] x, float16[8] b) => (y) { y = com.microsoft.BiasSplitGelu (x, b) }",
        B=2,
    )
    (launch,), (worst,) = cost.launches, cost.worst
    assert launch.accesses == 3 * 2 * 5 * 4
    assert worst.instructions > launch.instructions


def test_a_bias_with_a_residual_is_one_kernel_without_divisions() -> None:
    (launch,) = launches(
        "g (float16[B, 5, 320] x, float16[320] b, float16[B, 5, 320] s) => (y)"
        "{ y = com.microsoft.BiasAdd (x, b, s) }",
        B=2,
    )
    assert (launch.accesses, launch.indices) == (3 * 2 * 5 * 320, 0)


def test_an_operator_of_unknown_kernels_is_named_with_its_node() -> None:
    text = "g (float[B, 4] x) => (y) { y = LeakyRelu (x) }"
    with pytest.raises(BuildError, match=r"LeakyRelu .*kernels are unknown.*kernels\.py"):
        found(text, B=2)
