"""Low-rank changes as factors, for backends that multiply by themselves."""

import numpy as np
import pytest

from runtime.draw.lora.deltas import laid, low_rank
from runtime.errors import PackageError
from runtime.package.pack import AdaptedParameter, Kind
from runtime.package.tensors import Tensor, stored


def factors(shape: tuple[int, ...], rank: int, *dtypes: str) -> dict[str, Tensor]:
    draw = np.random.default_rng(rank)
    ones = (1,) * (len(shape) - 2)
    shapes = {"up": (shape[0], rank, *ones), "down": (rank, *shape[1:])}
    return {
        name: Tensor(dtype, stored(draw.standard_normal(each).astype(np.float32), dtype))
        for (name, each), dtype in zip(shapes.items(), dtypes, strict=True)
    }


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3)], ids=["matrix", "convolution"])
@pytest.mark.parametrize(
    ("up", "down", "both"), [("F16", "F16", "F16"), ("F32", "F32", "F32"), ("F16", "F32", "F32")]
)
def test_a_product_is_the_change_and_is_kept_as_it_is_stored(
    shape: tuple[int, ...], up: str, down: str, both: str
) -> None:
    given = factors(shape, 2, up, down)
    made = low_rank(given, shape, 0.5)
    assert (made.up.dtype, made.down.dtype) == (both, both)
    assert made.shape == (shape[0], int(np.prod(shape[1:])))
    target = AdaptedParameter("denoiser", "it", "lora", shape, 0.25, ("up", "down"))
    zeros = np.zeros(shape, np.float32)
    fp32 = {name: each.fp32() for name, each in given.items()}
    found = np.float32(made.scale) * made.up.fp32() @ made.down.fp32()
    expected = laid(target, fp32, zeros, zeros, 2.0)
    np.testing.assert_allclose(found.reshape(shape), expected, rtol=1e-5, atol=1e-6)


def test_factors_of_another_shape_are_refused_with_all_shapes() -> None:
    given = factors((6, 5), 2, "F16", "F16")
    with pytest.raises(PackageError, match=r"up \[6, 2\], down \[2, 5\] do not fit \[6, 4\]"):
        low_rank(given, (6, 4), 1.0)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_a_number_for_a_factor_is_refused_with_all_shapes(kind: Kind) -> None:
    names = {
        "lora": ("up", "down", "mid"),
        "loha": ("w1_a", "w1_b", "w2_a", "w2_b"),
        "lokr": ("w1", "w2_a", "w2_b"),
    }[kind]
    given = {name: np.ones((2, 2), np.float32) for name in names} | {
        names[1]: np.ones((), np.float32)
    }
    target = AdaptedParameter("denoiser", "it", kind, (2, 2), 1.0, names)
    base = np.zeros((2, 2), np.float32)
    with pytest.raises(PackageError, match=rf"{names[1]} \[\], .* do not fit \[2, 2\]"):
        laid(target, given, base, base, 1.0)


def test_a_number_for_a_factor_of_a_product_is_refused() -> None:
    given = factors((6, 5), 2, "F16", "F16")
    given["up"] = Tensor("F16", np.ones((), np.float16))
    with pytest.raises(PackageError, match=r"up \[\], down \[2, 5\] do not fit \[6, 5\]"):
        low_rank(given, (6, 5), 1.0)
