"""The NumPy twin of PyTorch's CPU generator, against PyTorch."""

import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.plan.sampling.noise import Draws, TorchGenerator

# The last bits of torch's vectorised logarithm and cosine.
TOLERANCE = 1e-6

SEEDS = (0, 1, 42, 123456789, 2**31, 2**32 - 1, 2**32 + 5, 2**63, 2**64 - 1, -1, -(2**63))
SHAPES = (
    *((), (0,), (1,), (2,), (5,), (15,), (16,), (17,), (31,), (32,), (3, 5), (3, 333)),
    *((1, 4, 64, 64), (1, 4, 104, 152), (1, 16, 32, 48), (2, 4, 8, 9)),
)


def assert_alike(ours: np.ndarray, theirs: torch.Tensor) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_seeds(shape: tuple[int, ...]) -> None:
    for seed in SEEDS:
        theirs = torch.Generator().manual_seed(seed)
        ours = TorchGenerator(seed)
        for _ in range(3):
            assert_alike(ours.randn(shape), torch.randn(shape, generator=theirs))


@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
)
def test_one_call_after_another(seed: int, sizes: list[int]) -> None:
    """Under 16 numbers, every second one is left over from the call before, whatever its size."""
    theirs = torch.Generator().manual_seed(seed)
    ours = TorchGenerator(seed)
    for size in sizes:
        assert_alike(ours.randn((size,)), torch.randn(size, generator=theirs))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_torch_refuses(seed: int) -> None:
    with pytest.raises(ValueError, match="Overflow"):
        torch.Generator().manual_seed(seed)
    with pytest.raises(RequestError, match=f"seed: {seed} is out of range"):
        TorchGenerator(seed)


def test_it_is_normal_noise() -> None:
    numbers = TorchGenerator(7).randn((1, 4, 128, 128))
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.std() - 1) < 0.01


SHAPE = (4, 6, 10)


def draws(weights: list[list[float]], seed: int = 11) -> Draws:
    return Draws(seed, SHAPE, np.array(weights, dtype=np.float32).reshape(len(weights), -1))


def pipeline_draws(count: int, seed: int = 11) -> list[np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    return [randn_tensor((1, *SHAPE), generator=generator).numpy() for _ in range(count)]


def test_draws_come_in_the_order_of_a_pipeline() -> None:
    expected = pipeline_draws(4)
    ours = draws([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(ours.initial(), expected[0], atol=TOLERANCE)
    for row in range(3):
        np.testing.assert_allclose(ours.noise(row), expected[row + 1], atol=TOLERANCE)


def test_a_draw_that_no_row_takes_is_drawn_all_the_same() -> None:
    expected = pipeline_draws(3)
    ours = draws([[0, 0], [0, 1]])
    ours.initial()
    assert ours.noise(0) is None
    np.testing.assert_allclose(ours.noise(1), expected[2], atol=TOLERANCE)


def test_a_row_may_mix_draws_of_rows_before() -> None:
    _, first, second = pipeline_draws(3)
    ours = draws([[1, 0], [-0.6, 0.8], [0, 0]])
    ours.initial()
    ours.noise(0)
    mixed = ours.noise(1)
    assert mixed is not None
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, -0.6 * first + 0.8 * second, atol=2 * TOLERANCE)
    assert ours.noise(2) is None


def test_a_draw_is_kept_no_longer_than_it_is_needed() -> None:
    """A sample of a hundred steps must not hold a hundred latents."""
    ours = draws([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]])
    ours.initial()
    for row, kept in enumerate(([0], [], [])):
        ours.noise(row)
        assert list(ours._kept) == kept


def test_a_row_without_draws_needs_no_noise() -> None:
    ours = Draws(1, SHAPE, np.zeros((2, 0), dtype=np.float32))
    ours.initial()
    assert ours.noise(0) is None
    assert ours.noise(1) is None


def test_rows_out_of_order_are_a_mistake() -> None:
    ours = draws([[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="row 0 was asked for"):
        ours.noise(0)
    ours.initial()
    with pytest.raises(ValueError, match="already"):
        ours.initial()
    with pytest.raises(ValueError, match="row 1 was asked for, expected row 0"):
        ours.noise(1)
    ours.noise(0)
    with pytest.raises(ValueError, match="row 0 was asked for, expected row 1"):
        ours.noise(0)
    ours.noise(1)
    with pytest.raises(ValueError, match="row 2"):
        ours.noise(2)


def test_the_same_seed_gives_the_same_bits() -> None:
    weights = [[1.0, 0.0], [0.6, 0.8]]
    one, other = draws(weights), draws(weights)
    np.testing.assert_array_equal(one.initial(), other.initial())
    for row in range(2):
        np.testing.assert_array_equal(one.noise(row), other.noise(row))
