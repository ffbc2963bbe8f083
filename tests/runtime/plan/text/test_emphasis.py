import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.plan.text.emphasis import emphasise

Doubles = npt.NDArray[np.float64]


def published_rule(hidden_states: Doubles, weights: Doubles) -> Doubles:
    """z * weights, then times (mean of z before / mean of z after), for each chunk in float64."""
    chunks = []
    for states, token_weights in zip(hidden_states, weights, strict=True):
        weighted = states * token_weights[:, None]
        chunks.append(weighted * (states.mean() / weighted.mean()))
    return np.stack(chunks)


def random_states(seed: int, *shape: int) -> npt.NDArray[np.float32]:
    # Off centre, as the hidden states of text encoders are.
    return np.random.default_rng(seed).normal(-0.1, 1.0, shape).astype(np.float32)


@given(
    seed=st.integers(0, 1000),
    token_weights=st.lists(st.floats(0.05, 3.0), min_size=7, max_size=7),
)
def test_equals_the_published_rule(seed: int, token_weights: list[float]) -> None:
    states = random_states(seed, 3, 7, 32) + np.float32(0.5)
    weights = np.stack([np.roll(token_weights, shift) for shift in range(3)])
    found = emphasise(states, weights)
    assert found.dtype == np.float32
    expected = published_rule(states.astype(np.float64), weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_equals_the_published_rule_at_the_size_of_sdxl() -> None:
    states = random_states(0, 2, 77, 2048)
    weights = np.ones((2, 77))
    weights[0, 3:6] = 1.1
    weights[1, 1:20] = -0.5
    expected = published_rule(states.astype(np.float64), weights)
    np.testing.assert_allclose(emphasise(states, weights), expected, rtol=1e-6)


def test_the_mean_of_each_chunk_is_restored_and_the_tokens_keep_their_ratio() -> None:
    states = np.abs(random_states(1, 2, 5, 8))
    weights = np.array([[1.0, 1.5, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 2.0, 1.0]])
    found = emphasise(states, weights)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), states.mean(axis=(1, 2)), rtol=1e-5)
    ratios = (found / states)[:, :, 0]
    np.testing.assert_allclose(ratios / ratios[:, :1], weights, rtol=1e-5)


def test_chunks_with_weights_of_one_are_untouched_bit_for_bit() -> None:
    states = random_states(2, 3, 77, 16)
    # Values that arithmetic with the mean would spread over the chunk.
    states[[0, 2], 0, :2] = [np.inf, np.nan]
    before = states.tobytes()
    assert emphasise(states, np.ones((3, 77))).tobytes() == before

    weights = np.ones((3, 77))
    weights[1, 5] = 1.1
    found = emphasise(states, weights)
    assert found[[0, 2]].tobytes() == states[[0, 2]].tobytes()
    assert (found[1] != states[1]).any()
    assert states.tobytes() == before, "the input was changed"


def test_a_chunk_gives_the_same_bits_alone_and_in_company() -> None:
    states = random_states(3, 4, 77, 64)
    weights = np.random.default_rng(3).uniform(0.5, 1.5, (4, 77))
    together = emphasise(states, weights)
    for index in range(4):
        alone = emphasise(states[index : index + 1], weights[index : index + 1])
        assert alone.tobytes() == together[index : index + 1].tobytes()


@pytest.mark.parametrize(
    ("states", "weights"),
    [
        ([[1.0, -1.0], [2.0, -2.0]], [1.0, 1.5]),
        ([[1.0, 1.0], [-1.0, -1.0]], [1.0, 1.5]),
        ([[3.0, 3.0], [-1.0, -1.0]], [1.0, 3.0]),
        ([[0.1, 0.2], [-0.3, 1e-9]], [1.0, 2.0]),
        ([[0.0, 0.0], [0.0, 0.0]], [1.0, 2.0]),
        ([[1.0, 2.0], [3.0, 4.0]], [0.0, 0.0]),
    ],
    ids=["zero by token", "zero before", "zero after", "rounding", "all zero", "all weights zero"],
)
def test_where_a_mean_is_zero_the_weighted_states_stand(
    states: list[list[float]], weights: list[float]
) -> None:
    hidden_states = np.array([states], dtype=np.float32)
    found = emphasise(hidden_states, np.array([weights]))
    expected = hidden_states * np.array(weights, dtype=np.float32)[None, :, None]
    np.testing.assert_array_equal(found, expected)


@given(seed=st.integers(0, 1000), weight=st.sampled_from([-1e6, -1.0, 0.0, 1e-30, 1.1, 1e6]))
def test_every_weight_that_the_parser_gives_stays_finite(seed: int, weight: float) -> None:
    weights = np.ones((1, 7))
    weights[0, seed % 7] = weight
    assert np.isfinite(emphasise(random_states(seed, 1, 7, 32), weights)).all()


def test_half_precision_comes_out_as_float32() -> None:
    states = random_states(4, 1, 7, 8).astype(np.float16)
    weights = np.ones((1, 7), dtype=np.float32)
    assert emphasise(states, weights).dtype == np.float32
    np.testing.assert_array_equal(emphasise(states, weights), states.astype(np.float32))
    weights[0, 2] = 1.5
    expected = published_rule(states.astype(np.float64), weights.astype(np.float64))
    np.testing.assert_allclose(emphasise(states, weights), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("states", "weights"), [((2, 7, 8), (2, 6)), ((2, 7, 8), (7,)), ((7, 8), (7, 8))]
)
def test_shapes_that_do_not_fit_are_refused(
    states: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="do not fit hidden states"):
        emphasise(np.ones(states, dtype=np.float32), np.ones(weights))
