"""Our operators for ONNX Runtime: their library and their kernels on the host, held to NumPy."""

from pathlib import Path

import numpy as np
import pytest

from runtime.package.tensors import Tensor, stored
from tests.fakes import operators as reference
from tests.fakes.custom_operators import Api, OperatorError
from tests.fakes.operators_host import build_operators, compiler
from tests.fakes.operators_ptx import PtxApi, build_launching_operators
from tests.runtime.backends.onnxruntime.operator_runs import (
    DTYPES,
    STEP,
    Draw,
    assert_close,
    check_sum_norm,
    numbers,
)


@pytest.fixture(scope="module", params=["host", "ptx"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    """The library with its kernels compiled for the host, and with their PTX."""
    if compiler() is None:
        pytest.skip("there is no g++ here, which compiles the operators for the host")
    folder = tmp_path_factory.mktemp("operators")
    if request.param == "ptx":
        return PtxApi(build_launching_operators(folder))
    return Api(build_operators(folder))


SHAPES = [(1, 1, 5), (2, 7, 8), (3, 7, 24), (2, 3, 320), (1, 2, 3072), (1, 1, 5120), (1, 1, 600)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gated_sum_norm_of_all_inputs(
    api: Api, dtype: str, norm: str, shape: tuple[int, int, int]
) -> None:
    R, _, C = shape
    draw = Draw(dtype)
    vectors = draw(C), draw(C), draw(R, 1, C), draw(C), draw(R, C), draw(1, 1, C)
    settings = {"norm": norm, "epsilon": 1e-5, "branch_epsilon": 1e-3, "gate_tanh": 1}
    check_sum_norm(api, draw, [draw(*shape), draw(*shape), *vectors], settings)
    path = "packs" if C % 8 == 0 else "elements"
    assert api.last_kernel == f"gated_sum_norm_{dtype.lower()}_{path}"


BRANCH = ["bias", "branch_weight", "gate"]
NORM = ["weight", "scale", "shift"]


@pytest.mark.parametrize("there", range(64))
def test_a_gated_sum_norm_of_any_inputs(api: Api, there: int) -> None:
    draw = Draw("F16", there)
    shapes = [(24,), (24,), (2, 24), (24,), (1, 24), (2, 1, 24)]
    vectors = [draw(*shape) if there >> i & 1 else None for i, shape in enumerate(shapes)]
    settings = {"norm": "layer", "epsilon": 1e-6, "branch_epsilon": 1e-6}
    check_sum_norm(api, draw, [draw(2, 3, 24), draw(2, 3, 24), *vectors], settings)
    if there < 8:
        given = [draw(2, 3, 24), None, None, None, None, *vectors[:3]]
        given[6:8] = [draw(2, 24) if vectors[0] else None, draw(1, 24) if vectors[1] else None]
        check_sum_norm(api, draw, given, settings, (True, False))


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_that_nobody_reads_are_left_out(api: Api, dtype: str) -> None:
    draw = Draw(dtype)
    given = [draw(1, 3, 16), draw(1, 3, 16)]
    settings = {"norm": "rms", "epsilon": 1e-5}
    for outputs in ((True, False), (False, True)):
        check_sum_norm(api, draw, given, settings, outputs)
    (_, total) = api.run("GatedSumNorm", dtype, given, {}, (False, True))
    assert total is not None


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_far_mean_costs_a_layer_norm_no_digits(api: Api, dtype: str) -> None:
    x = Tensor(dtype, stored(Draw(dtype)(1, 2, 64).fp32() + np.float32(200), dtype))
    settings = {"norm": "layer", "epsilon": 1e-5}
    made, _ = api.run("GatedSumNorm", dtype, [x], settings, (True, False))
    expected, _ = reference.gated_sum_norm([x.fp32()], **settings, rounded=np.asarray)
    assert made is not None
    # Sums of squares in one pass would be wrong by some 1e-3.
    np.testing.assert_allclose(made.fp32(), expected, rtol=STEP[dtype], atol=5e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_none(api: Api, dtype: str) -> None:
    x = np.full((1, 1, 8), np.nan, np.float32)
    tensor = Tensor(
        dtype,
        np.full(x.shape, 0x7FFF, np.uint16)
        if dtype == "BF16"
        else x.astype("f4" if dtype == "F32" else "f2"),
    )
    made, _ = api.run(
        "GatedSumNorm", dtype, [tensor], {"norm": "rms", "epsilon": 0.1}, (True, False)
    )
    assert made is not None
    assert np.isnan(made.fp32()).all()


WIDTHS = [8, 20, 64, 80, 128, 7]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("halves", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_of_two_streams_are_normed_and_rotated(
    api: Api, dtype: str, halves: int, width: int
) -> None:
    heads, R, first, second = 3, 2, 4, 3
    draw = Draw(dtype)
    settings = {"heads": heads, "epsilon": 1e-5, "halves": halves}
    C = heads * width
    streams = [
        each for tokens in (first, second) for each in (draw(R, tokens, C), draw(C), draw(width))
    ]
    for rows in (1, R):
        for extent in (width, width // 2) if width % 2 == 0 else (0,):
            tables = [
                draw(rows, first + second, extent, dtype="F32") for _ in range(2 if extent else 0)
            ]
            given = [*streams, *tables]
            (made,) = api.run("RotatedHeads", dtype, given, settings)
            assert_close(made, reference.rotated_heads(numbers(given), **settings), dtype)
            path = "packs" if width % 16 == 0 else "elements"
            assert api.last_kernel == f"rotated_heads_{dtype.lower()}_{path}"


@pytest.mark.parametrize("width", [20, 64])
@pytest.mark.parametrize("there", range(32))
def test_heads_of_any_inputs(api: Api, there: int, width: int) -> None:
    heads, R = 2, 3
    C, draw = heads * width, Draw("BF16", there)
    has = [bool(there >> i & 1) for i in range(5)]
    given = [draw(R, 1, C), draw(C) if has[0] else None, draw(width) if has[1] else None]
    tokens = 1
    if has[2]:
        tokens = 8
        given += [draw(R, 7, C), draw(C) if has[3] else None, draw(width) if has[4] else None]
    elif has[3]:
        given += [None, None, None]
        given += [draw(1, tokens, width, dtype="F32"), draw(1, tokens, width, dtype="F32")]
    settings = {"heads": heads, "epsilon": 1e-6}
    (made,) = api.run("RotatedHeads", "BF16", given, settings)
    assert_close(made, reference.rotated_heads(numbers(given), **settings), "BF16")


def test_many_heads_take_several_blocks_of_a_token(api: Api) -> None:
    draw = Draw("F16")
    given = [draw(1, 2, 64 * 128), None, draw(128)]
    settings = {"heads": 64, "epsilon": 1e-6}
    (made,) = api.run("RotatedHeads", "F16", given, settings)
    assert_close(made, reference.rotated_heads(numbers(given), **settings), "F16")


@pytest.mark.parametrize("shape", [(1, 1, 5), (2, 7, 8), (3, 24), (2, 2560)], ids=str)
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gated_activation(api: Api, dtype: str, activation: str, shape: tuple[int, ...]) -> None:
    draw = Draw(dtype)
    *rows, N = shape
    for before in (None, draw(*rows, 16), draw(*rows, 3)):
        for bias in (None, draw(N)):
            for value in (None, draw(*shape)):
                given = [draw(*shape), bias, value, bias if value else None, before]
                (made,) = api.run("GatedActivation", dtype, given, {"activation": activation})
                expected = reference.gated_activation(numbers(given), activation=activation)
                assert_close(made, expected, dtype)


@pytest.mark.parametrize("N", [5, 8, 320])
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_and_gate_in_one_input(api: Api, dtype: str, N: int) -> None:
    draw = Draw(dtype)
    settings = {"activation": "gelu", "packed": 1}
    for bias in (None, draw(2 * N)):
        given = [draw(2, 3, 2 * N), bias]
        (made,) = api.run("GatedActivation", dtype, given, settings)
        assert_close(made, reference.gated_activation(numbers(given), **settings), dtype)
        path = "packs" if N % 8 == 0 else "elements"
        assert api.last_kernel == f"gated_activation_{dtype.lower()}_{path}"


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_activations_far_out(api: Api, activation: str) -> None:
    x = np.array([[-1e4, -100.0, -30.0, -6.0, -0.0, 1e-6, 100.0, 1e4]], np.float32)
    (made,) = api.run("GatedActivation", "F32", [Tensor("F32", x)], {"activation": activation})
    assert made is not None
    with np.errstate(over="ignore"):
        expected = reference.gated_activation([x], activation=activation)
    np.testing.assert_allclose(made.values, expected, rtol=1e-5, atol=1e-7)


def test_an_address_that_is_not_aligned_takes_the_general_path(api: Api) -> None:
    draw = Draw("F16")
    x = draw(1, 2, 16)
    apart = np.empty(33, np.float16)[1:].reshape(x.values.shape)
    apart[...] = x.values
    settings = {"norm": "layer", "epsilon": 1e-5}
    check_sum_norm(api, draw, [Tensor("F16", apart)], settings, (True, False))
    assert api.last_kernel == "gated_sum_norm_f16_elements"


@pytest.mark.parametrize("shape", [(0, 3, 8), (2, 0, 8), (2, 3, 0)], ids=str)
def test_nothing_is_launched_for_nothing(api: Api, shape: tuple[int, int, int]) -> None:
    draw = Draw("F32")
    api.run("GatedActivation", "F32", [draw(1, 5)], {"activation": "silu"})
    before = api.last_kernel
    settings = {"norm": "layer", "epsilon": 1e-5}
    made, _ = api.run("GatedSumNorm", "F32", [draw(*shape), draw(*shape)], settings, (True, True))
    (heads,) = api.run(
        "RotatedHeads",
        "F32",
        [draw(*shape), None, draw(shape[2] // 2)],
        {"heads": 2, "epsilon": 1e-5},
    )
    (active,) = api.run("GatedActivation", "F32", [draw(*shape)], {"activation": "silu"})
    for each in (made, heads, active):
        assert each is not None
        assert each.values.shape == shape
    assert api.last_kernel == before


X = (2, 3, 8)
GATE = [X, X, None, None]
TABLES = [X, *[None] * 5]
SILU = {"activation": "silu"}
WRONG = [
    ("GatedSumNorm", [(3, 8)], {}, "'x' has the shape [3, 8], expected [any, any, any]"),
    ("GatedSumNorm", [X, (2, 3, 4)], {}, "'branch' has the shape [2, 3, 4], expected [2, 3, 8]"),
    ("GatedSumNorm", [X, X, (4,)], {}, "'bias' has the shape [4], expected [8]"),
    ("GatedSumNorm", [*GATE, (3, 8)], {}, "'gate' has the shape [3, 8], expected [2, 8]"),
    ("GatedSumNorm", [*GATE, (8,)], {}, "'gate' has the shape [8], expected [2, 1, 8]"),
    ("GatedSumNorm", [X, None, (8,)], {}, "input 'bias' is there without 'branch'"),
    ("GatedSumNorm", [X, X, None, (8,)], {}, "needs the attribute 'branch_epsilon'"),
    ("GatedSumNorm", [X], {"norm": ""}, "needs the attributes 'norm' and 'epsilon'"),
    ("GatedSumNorm", [X], {"norm": "group"}, "is 'group', expected 'layer' or 'rms'"),
    ("GatedSumNorm", [X], {"norm": "layer of all of it"}, "expected 'layer' or 'rms'"),
    ("RotatedHeads", [X], {"heads": 0}, "attribute 'heads' is 0, expected 1 or more"),
    ("RotatedHeads", [X], {"heads": 3}, "has 8 channels, expected a multiple of 3 heads"),
    ("RotatedHeads", [X, None, (8,)], {"heads": 2}, "has the shape [8], expected [4]"),
    ("RotatedHeads", [X, None, None, (1, 3, 8)], {"heads": 2}, "expected [2, any, 8]"),
    ("RotatedHeads", [*TABLES, (1, 3, 4)], {"heads": 2}, "one of 'cosines' and 'sines'"),
    ("RotatedHeads", [*TABLES, (1, 2, 4), (1, 2, 4)], {"heads": 2}, "expected [1, 3, 4]"),
    ("RotatedHeads", [*TABLES, (1, 3, 4), (1, 3, 2)], {"heads": 2}, "expected [1, 3, 4]"),
    ("RotatedHeads", [*TABLES, (3, 4), (3, 4)], {"heads": 2}, "'cosines' has the shape [3, 4]"),
    ("RotatedHeads", [*TABLES, (1, 3, 1), (1, 3, 1)], {"heads": 8}, "cannot be rotated"),
    ("GatedActivation", [X], {"activation": "relu"}, "is 'relu', expected 'silu', 'gelu' or"),
    ("GatedActivation", [X, (16,)], SILU, "'gate_bias' has the shape [16], expected [8]"),
    ("GatedActivation", [X, None, (2, 3, 4)], SILU, "'value' has the shape [2, 3, 4]"),
    ("GatedActivation", [X, None, X], {**SILU, "packed": 1}, "'gate' has both"),
    ("GatedActivation", [X, None, None, (8,)], SILU, "'value_bias' is there without 'value'"),
    ("GatedActivation", [(2, 7)], {**SILU, "packed": 1}, "has 7 channels, expected an even"),
    ("GatedActivation", [*TABLES[:4], (2, 2, 8)], SILU, "[2, 2, 8], expected [2, 3, any]"),
]


@pytest.mark.parametrize(("name", "shapes", "settings", "words"), WRONG, ids=repr)
def test_what_does_not_fit_is_refused_by_name(
    api: Api,
    name: str,
    shapes: list[tuple[int, ...] | None],
    settings: dict[str, float | int | str],
    words: str,
) -> None:
    draw = Draw("F32")
    given = [None if shape is None else draw(*shape) for shape in shapes]
    common: dict[str, float | int | str] = {"norm": "layer", "epsilon": 1e-5}
    with pytest.raises(OperatorError) as raised:
        api.run(name, "F32", given, {**common, **settings})
    assert str(raised.value).startswith(f"{name} node 'a node': ")
    assert words in str(raised.value)


@pytest.mark.skipif(compiler() is None, reason="there is no g++ here")
def test_an_older_onnx_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"need ONNX Runtime 1\.17 or newer, found 1\.16\.0"):
        Api(build_launching_operators(tmp_path), version=16)
