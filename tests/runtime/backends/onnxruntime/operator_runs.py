"""Runs of our operators that are held to NumPy."""

from collections.abc import Container, Mapping, Sequence

import numpy as np

from runtime.package.tensors import Tensor, stored
from tests.fakes import operators as reference
from tests.fakes.custom_operators import Api

DTYPES = ("F32", "F16", "BF16")
STEP = {"F32": 2**-20, "F16": 2**-10, "BF16": 2**-7}
"""The relative distance of neighbours of a dtype; of fp32, what sums in another order come to."""

GATE_ERROR = 1.01 * 2**-11
"""Of the tangent of a gate in bf16, which one approximate instruction computes."""

Given = Tensor | None


class Draw:
    """Random tensors of a dtype."""

    def __init__(self, dtype: str, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.dtype = dtype

    def __call__(self, *shape: int, dtype: str = "") -> Tensor:
        numbers = self._random.standard_normal(shape).astype(np.float32)
        return Tensor(dtype or self.dtype, stored(numbers, dtype or self.dtype))

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        return Tensor(self.dtype, stored(numbers.astype(np.float32), self.dtype)).fp32()


def numbers(given: Sequence[Given]) -> list[np.ndarray | None]:
    return [None if each is None else each.fp32() for each in given]


def assert_close(made: Given, expected: np.ndarray, dtype: str, slack: float = 0.125) -> None:
    """Within a step of each number, and `slack` steps of the largest."""
    assert made is not None
    assert made.values.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    step = STEP[dtype]
    np.testing.assert_allclose(made.fp32(), expected, rtol=step, atol=step * scale * slack)


def check_sum_norm(
    api: Api,
    draw: Draw,
    given: Sequence[Given],
    settings: Mapping[str, float | int | str],
    outputs: tuple[bool, bool] = (True, True),
) -> list[Given]:
    """Run a GatedSumNorm and compare; returns both outputs. Raises what `api.run` raises."""
    made, total = api.run("GatedSumNorm", draw.dtype, given, settings, outputs)
    expected = reference.gated_sum_norm(numbers(given), **settings, rounded=draw.rounded)
    assert (made is not None, total is not None) == outputs
    gate = GATE_ERROR if draw.dtype == "BF16" and settings.get("gate_tanh") else 0.0
    if total is not None:
        # A sum that lies between two numbers decides what the norm reads.
        summed = total.fp32()
        expected = (
            reference.gated_sum_norm(numbers(given), **settings, rounded=lambda _: summed)[0],
            expected[1],
        )
        # What lies between two numbers of the dtype may be rounded to either; and where the
        # residual takes the branch away, what remains is as wrong as the gate.
        assert given[0] is not None
        branch = np.abs(expected[1] - given[0].fp32())
        allowed = STEP[draw.dtype] * np.abs(expected[1]) + gate * branch + 1e-6
        assert (np.abs(summed - expected[1]) <= allowed).all()
    if made is not None:
        # Behind such a gate a sum that nobody sees may be rounded to the other of two numbers.
        slack = 1.0 if gate and total is None else 0.125
        assert_close(made, expected[0], draw.dtype, slack)
    return [made, total]


def sum_norm_inputs(
    draw: Draw, shape: tuple[int, int, int], there: Container[str], rows: int
) -> list[Given]:
    """Inputs of a GatedSumNorm, of which `there` are given; modulations are of so many rows."""
    R, _, C = shape
    shapes = {
        "branch": shape, "bias": (C,), "branch_weight": (C,), "gate": (rows, 1, C),
        "weight": (C,), "scale": (R, C), "shift": (1, 1, C),
    }  # fmt: skip
    return [draw(*shape), *(draw(*of) if name in there else None for name, of in shapes.items())]


def check_heads(
    api: Api,
    draw: Draw,
    sizes: tuple[int, int, int],
    tokens: tuple[int, int],
    there: Container[str],
    *,
    halves: int,
) -> None:
    """Run a RotatedHeads and compare. `sizes` are evaluations, heads and their width.

    Of the inputs, `there` are given. "tables" are both tables: with "rows" they have a row for each
    evaluation, with "pairs" a number for each pair.
    """
    R, heads, width = sizes
    C, (first, second) = heads * width, tokens
    table = (R if "rows" in there else 1, first + second, width // (2 if "pairs" in there else 1))
    shapes = {
        "first_bias": (C,), "first_weight": (width,), "second": (R, second, C),
        "second_bias": (C,), "second_weight": (width,),
    }  # fmt: skip
    given = [draw(R, first, C)]
    given += [draw(*of) if name in there else None for name, of in shapes.items()]
    if "tables" in there:
        given += [draw(*table, dtype="F32"), draw(*table, dtype="F32")]
    settings = {"heads": heads, "epsilon": 1e-5, "halves": halves}
    (made,) = api.run("RotatedHeads", draw.dtype, given, settings)
    assert_close(made, reference.rotated_heads(numbers(given), **settings), draw.dtype, slack=1)


def check_activation(
    api: Api,
    draw: Draw,
    shape: tuple[int, int],
    there: Container[str],
    *,
    before: int,
    activation: str,
) -> None:
    """Run a GatedActivation and compare. `there` are the inputs that are given, and "packed"."""
    rows, N = shape
    packed = "packed" in there
    wide = 2 * N if packed else N
    given = [
        draw(rows, wide),
        draw(wide) if "gate_bias" in there else None,
        draw(rows, N) if "value" in there else None,
        draw(N) if "value_bias" in there else None,
        draw(rows, before) if "before" in there else None,
    ]
    settings = {"activation": activation, "packed": int(packed)}
    (made,) = api.run("GatedActivation", draw.dtype, given, settings)
    expected = reference.gated_activation(numbers(given), **settings)
    assert_close(made, expected, draw.dtype, slack=1)
