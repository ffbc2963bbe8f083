"""Our operators' committed PTX with every set of inputs, and with any sizes.

Each access is checked; `test_operators.py` runs its cases, which are those of the host, on it too.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.operators_host import compiler
from tests.fakes.operators_ptx import PtxApi, build_launching_operators
from tests.runtime.backends.onnxruntime.operator_runs import (
    DTYPES,
    Draw,
    check_activation,
    check_heads,
    check_sum_norm,
    sum_norm_inputs,
)

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
OUTPUTS = ((True, True), (True, False), (False, True))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> PtxApi:
    if compiler() is None:
        pytest.skip("there is no gcc here, which compiles the library of operators")
    return PtxApi(build_launching_operators(tmp_path_factory.mktemp("operators")))


def subsets(names: Iterable[str]) -> Iterator[frozenset[str]]:
    every = sorted(names)
    for size in range(len(every) + 1):
        yield from map(frozenset, combinations(every, size))


OF_BRANCH, OF_NORM = ("bias", "branch_weight", "gate"), ("weight", "scale", "shift")
NORMS = [
    *({"branch", *branch, *norm} for branch in subsets(OF_BRANCH) for norm in subsets(OF_NORM)),
    *subsets(OF_NORM),
]


# Longer than what a block keeps in registers, which is 4096 and 512.
@pytest.mark.parametrize("channels", [4104, 517])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gated_sum_norm_with_every_set_of_inputs(api: PtxApi, dtype: str, channels: int) -> None:
    shape = 1, 1, channels
    for i, there in enumerate(NORMS):
        draw = Draw(dtype, i)
        settings = {
            "norm": ("rms", "layer")[i % 2], "epsilon": 1e-5, "branch_epsilon": 1e-4,
            "gate_tanh": i // 2 % 2,
        }  # fmt: skip
        check_sum_norm(api, draw, sum_norm_inputs(draw, shape, there, 1), settings, OUTPUTS[i % 3])
    path = "elements" if channels % 8 else "packs"
    assert api.last_kernel == f"gated_sum_norm_{dtype.lower()}_{path}"


STREAMS = [
    *subsets(("first_bias", "first_weight")),
    *(
        {"second", *there}
        for there in subsets(("first_bias", "first_weight", "second_bias", "second_weight"))
    ),
]
TABLES = [set(), {"tables"}, {"tables", "pairs"}]


# Of a head of 48 three lanes have packs and one has none, of 6 likewise six and two.
@pytest.mark.parametrize("width", [48, 6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rotated_heads_with_every_set_of_inputs(api: PtxApi, dtype: str, width: int) -> None:
    for i, streams in enumerate(STREAMS):
        for tables in TABLES:
            for halves in (0, 1) if tables else (0,):
                tokens = (1, 1) if "second" in streams else (2, 0)
                # Eight heads fit in a block of one warp at once, and of 9 one is left.
                heads, rows = (3, 9)[i % 2], {"rows"} if i // 2 % 2 else set()
                there = streams | tables | rows
                check_heads(api, Draw(dtype, i), (2, heads, width), tokens, there, halves=halves)
    path = "elements" if width % 16 else "packs"
    assert api.last_kernel == f"rotated_heads_{dtype.lower()}_{path}"


VALUES = [set(), {"value"}, {"value", "value_bias"}, {"packed"}]


@pytest.mark.parametrize("width", [24, 9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gated_activation_with_every_set_of_inputs(api: PtxApi, dtype: str, width: int) -> None:
    for activation in ACTIVATIONS:
        for value in VALUES:
            for others in subsets(("gate_bias", "before")):
                draw = Draw(dtype)
                check_activation(
                    api, draw, (3, width), value | others, before=16, activation=activation
                )
    path = "elements" if width % 8 else "packs"
    assert api.last_kernel == f"gated_activation_{dtype.lower()}_{path}"


dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)


@given(
    dtype=dtypes,
    seed=seeds,
    tokens=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    channels=st.integers(1, 700) | st.integers(1, 1300).map(lambda packs: 8 * packs),
    there=st.sampled_from(NORMS),
    norm=st.sampled_from(["layer", "rms"]),
    gate_tanh=st.integers(0, 1),
    one_gate=st.booleans(),
    outputs=st.sampled_from(OUTPUTS),
)
def test_a_gated_sum_norm_of_any_size(
    api: PtxApi,
    *,
    dtype: str,
    seed: int,
    tokens: tuple[int, int],
    channels: int,
    there: set[str],
    norm: str,
    gate_tanh: int,
    one_gate: bool,
    outputs: tuple[bool, bool],
) -> None:
    draw = Draw(dtype, seed)
    # Of few numbers the deviation may be far below the mean: any layer norm loses digits then.
    norm = norm if channels >= 16 else "rms"
    settings = {"norm": norm, "epsilon": 1e-5, "branch_epsilon": 1e-4, "gate_tanh": gate_tanh}
    gates = 1 if one_gate else tokens[0]
    inputs = sum_norm_inputs(draw, (*tokens, channels), there, gates)
    made = check_sum_norm(api, draw, inputs, settings)
    # How a sum is rounded that nobody sees cannot be known otherwise.
    fewer = api.run("GatedSumNorm", dtype, inputs, settings, outputs)
    assert [each is not None for each in fewer] == list(outputs)
    for one, other in zip(made, fewer, strict=True):
        if other is not None:
            np.testing.assert_array_equal(one.values, other.values)


@given(
    dtype=dtypes,
    seed=seeds,
    sizes=st.tuples(
        st.integers(1, 3),
        st.integers(1, 70),
        st.integers(1, 20).map(lambda half: 2 * half)
        | st.integers(1, 34).map(lambda two: 16 * two),
    ),
    tokens=st.tuples(st.integers(1, 4), st.integers(0, 3)),
    streams=st.sampled_from(STREAMS),
    tables=st.sampled_from([*TABLES, *({"rows", *each} for each in TABLES)]),
    halves=st.integers(0, 1),
)
def test_rotated_heads_of_any_size(
    api: PtxApi,
    *,
    dtype: str,
    seed: int,
    sizes: tuple[int, int, int],
    tokens: tuple[int, int],
    streams: set[str],
    tables: set[str],
    halves: int,
) -> None:
    tokens = tokens if "second" in streams else (tokens[0], 0)
    draw = Draw(dtype, seed)
    check_heads(api, draw, sizes, tokens, streams | tables, halves=halves)


@given(
    dtype=dtypes,
    seed=seeds,
    rows=st.integers(1, 4),
    width=st.integers(1, 600) | st.integers(1, 600).map(lambda packs: 8 * packs),
    before=st.integers(1, 300) | st.integers(1, 300).map(lambda packs: 8 * packs),
    value=st.sampled_from(VALUES),
    others=st.sampled_from(list(subsets(("gate_bias", "before")))),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_a_gated_activation_of_any_size(
    api: PtxApi,
    *,
    dtype: str,
    seed: int,
    rows: int,
    width: int,
    before: int,
    value: set[str],
    others: set[str],
    activation: str,
) -> None:
    draw, there = Draw(dtype, seed), value | others
    check_activation(api, draw, (rows, width), there, before=before, activation=activation)
