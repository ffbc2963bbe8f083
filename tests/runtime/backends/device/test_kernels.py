"""Our CUDA kernels: their committed PTX, what they compute, and what the fake computes for them.

Their source is compiled for the host too, thread after thread, since no test has a GPU; only the
two instructions that turn fp16 into fp32 and back are another's there. Their PTX runs on the CPU,
with every access checked.
"""

import ctypes
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.device.factors import DTYPES, Batch
from runtime.backends.low_rank import LowRankUpdate, Product
from runtime.package.tensors import Tensor, stored
from scripts.compile_kernels import KERNELS as FOLDER
from scripts.compile_kernels import compiled
from tests.fakes.kernels import KERNELS
from tests.fakes.ptx.machine import launch
from tests.fakes.ptx.memory import Array
from tests.fakes.ptx.program import Program, programs_of
from tests.runtime.backends.device.updates import update

SOURCES = sorted(FOLDER.glob("*.cu"))

SHAPES = [(1, 1, 1), (8, 256, 4), (9, 300, 3), (40, 27, 16), (7, 257, 33)]
"""Outputs, inputs, rank: with and without a rest in both directions of the grid."""

HOST = """
struct Index { int x, y; };
static thread_local Index blockIdx, threadIdx, blockDim;
#define __global__
#define __device__
#define STORED_AS_HALF
static float from_half(unsigned short half) { return (float)*(_Float16*)&half; }
static unsigned short to_half(float number) {
    _Float16 half = (_Float16)number;
    return *(unsigned short*)&half;
}
#include "low_rank.cu"
extern "C" void launch(int columns, int rows, int threads, void* weight, const void* base,
                       const char* factors, int first, int count, int outputs, int inputs,
                       int dtype) {
    blockDim = {threads, 1};
    for (int y = 0; y < rows; ++y)
        for (int x = 0; x < columns; ++x)
            for (int thread = 0; thread < threads; ++thread) {
                blockIdx = {x, y};
                threadIdx = {thread, 0};
                low_rank(weight, base, factors, first, count, outputs, inputs, dtype);
            }
}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels' source as functions that run a whole grid here."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ here, which compiles the kernels for the host")
    folder = tmp_path_factory.mktemp("kernels")
    source, library = folder / "host.cpp", folder / "host.so"
    source.write_text(HOST)
    command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{FOLDER}", str(source)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return ctypes.CDLL(library)


@pytest.fixture(scope="module")
def program() -> Program:
    """The kernel's committed PTX."""
    return programs_of((FOLDER / "low_rank.ptx").read_text())["low_rank"]


def launched(given: LowRankUpdate) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The grid with its threads, and the numbers of a launch behind the factors' address."""
    outputs, inputs = given.base.values.shape
    dtype = DTYPES[given.base.dtype]
    return (-(-inputs // 256), -(-outputs // 8), 64), (
        0,
        len(given.products),
        outputs,
        inputs,
        dtype,
    )


def memory_of(given: LowRankUpdate) -> np.ndarray:
    """The table of products and the factors, as they lie on the device."""
    batch = Batch({"it": given})
    content = np.zeros(batch.size_bytes, np.uint8)
    arrays, _ = batch.laid()
    for offset, array in arrays.items():
        stored_as = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        content[offset : offset + stored_as.size] = stored_as
    return content


def by_source(host: ctypes.CDLL, given: LowRankUpdate, *, in_place: bool = False) -> Tensor:
    base = given.base.values.copy()
    made = base if in_place else np.zeros_like(base)
    factors = memory_of(given)
    grid, numbers = launched(given)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (made, base, factors)]
    host.launch(*grid, *pointers, *numbers)
    return Tensor(given.base.dtype, made)


def by_ptx(program: Program, given: LowRankUpdate, *, in_place: bool = False) -> Tensor:
    base = given.base.values.reshape(-1).view("u1")
    at = {"weight": 1 << 40, "base": 2 << 40, "factors": 3 << 40}
    if in_place:
        at["base"] = at["weight"]
    arrays = [
        Array("weight", at["weight"], base if in_place else np.zeros_like(base), known=in_place),
        Array("factors", at["factors"], memory_of(given)),
        *([] if in_place else [Array("base", at["base"], base)]),
    ]
    (columns, rows, threads), numbers = launched(given)
    parameters = struct.pack("<3Q5i", *at.values(), *numbers)
    made = launch(program, (columns, rows, 1), threads, parameters, arrays)["weight"]
    return Tensor(
        given.base.dtype, made.view(given.base.values.dtype).reshape(given.base.values.shape)
    )


def by_fake(given: LowRankUpdate) -> Tensor:
    made = np.zeros_like(given.base.values)
    factors = memory_of(given)
    arrays = (made, given.base.values.copy(), factors)

    def view(address: int, size: int) -> np.ndarray:
        behind = address % (1 << 40)
        return arrays[(address >> 40) - 1].reshape(-1).view(np.uint8)[behind : behind + size]

    _, numbers = launched(given)
    KERNELS["low_rank"](view, (1 << 40, 2 << 40, 3 << 40, *numbers))
    return Tensor(given.base.dtype, made)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_low_rank_update_is_what_its_product_comes_to(
    dtype: str, shape: tuple[int, int, int], host: ctypes.CDLL, program: Program
) -> None:
    outputs, inputs, rank = shape
    # Two packs of a set, whose files have other dtypes.
    given = update(dtype, outputs, inputs, {rank: "F16", 2: dtype})
    expected = given.merged().fp32()
    # A sum in another order may round to the neighbour.
    neighbour = {"F32": 1e-5, "F16": 2**-10, "BF16": 2**-7}[dtype]
    for made in (
        by_source(host, given),
        by_source(host, given, in_place=True),
        by_fake(given),
        by_ptx(program, given),
        by_ptx(program, given, in_place=True),
    ):
        assert made.values.dtype == given.base.values.dtype
        np.testing.assert_allclose(made.fp32(), expected, rtol=neighbour, atol=1e-5)
        assert (made.fp32() == expected).mean() > (0.2 if dtype == "F32" else 0.99)


def test_without_a_product_the_base_is_copied(host: ctypes.CDLL, program: Program) -> None:
    given = update("BF16", 9, 300, {})
    for made in (by_source(host, given), by_fake(given), by_ptx(program, given)):
        np.testing.assert_array_equal(made.values, given.base.values)


@pytest.mark.parametrize("number", [0.0, -0.0, 65504.0, 65520.0, 6e-8, 2.0**-25, 1e-30, 1 / 3])
def test_numbers_at_the_ends_of_fp16_and_bf16_are_rounded_as_numpy_does(
    number: float, host: ctypes.CDLL, program: Program
) -> None:
    for dtype in ("F16", "BF16"):
        base = Tensor(dtype, stored(np.zeros((1, 1), np.float32), dtype))
        up, down = (Tensor("F32", np.full((1, 1), each, np.float32)) for each in (number, 1))
        given = LowRankUpdate(base, (Product(up, down, 1.0),))
        for made in (by_source(host, given), by_ptx(program, given)):
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(made.values, given.merged().values)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_committed_ptx_is_what_the_source_gives(source: Path) -> None:
    assert source.with_suffix(".ptx").read_bytes() == compiled(source), (
        "run: python -m scripts.compile_kernels"
    )


@pytest.mark.parametrize("gpu", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_gpu_that_is_served_takes_it(source: Path, gpu: str) -> None:
    code = compiled(source, gpu)
    assert code.startswith(b"\x7fELF")
    assert all(name.encode() in code for name in KERNELS)


def test_what_does_not_compile_is_told_in_the_compilers_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cu"
    broken.write_text("nonsense")
    with pytest.raises(ValueError, match=r"broken\.cu: .*error"):
        compiled(broken)


def test_every_kernel_is_in_the_ptx_and_in_the_fake() -> None:
    texts = [source.with_suffix(".ptx").read_text() for source in SOURCES]
    found = [name for text in texts for name in re.findall(r"\.visible \.entry (\w+)\(", text)]
    assert sorted(found) == sorted(KERNELS)
