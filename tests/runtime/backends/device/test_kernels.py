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

from runtime.backends.low_rank import LowRankUpdate
from runtime.package.tensors import Tensor, stored
from scripts.compile_kernels import KERNELS as FOLDER
from scripts.compile_kernels import compiled
from tests.fakes.kernels import KERNELS
from tests.fakes.ptx.machine import launch
from tests.fakes.ptx.memory import Array
from tests.fakes.ptx.program import Program, programs_of

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
template <typename Stored, typename Kernel>
static void launch(Kernel kernel, int columns, int rows, int threads, Stored* weight,
                   const float* up, const float* down, int outputs, int inputs, int rank) {
    blockDim = {threads, 1};
    for (int y = 0; y < rows; ++y)
        for (int x = 0; x < columns; ++x)
            for (int thread = 0; thread < threads; ++thread) {
                blockIdx = {x, y};
                threadIdx = {thread, 0};
                kernel(weight, up, down, outputs, inputs, rank);
            }
}
#define LAUNCH(NAME, STORED)                                                              \\
    extern "C" void launch_##NAME(int columns, int rows, int threads, STORED* weight,     \\
                                  const float* up, const float* down,                     \\
                                  int outputs, int inputs, int rank) {                    \\
        launch(NAME, columns, rows, threads, weight, up, down, outputs, inputs, rank);    \\
    }
LAUNCH(low_rank_f32, float)
LAUNCH(low_rank_f16, unsigned short)
LAUNCH(low_rank_bf16, unsigned short)
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
def programs() -> dict[str, Program]:
    """The kernels' committed PTX."""
    return programs_of((FOLDER / "low_rank.ptx").read_text())


def update(dtype: str, outputs: int, inputs: int, rank: int) -> LowRankUpdate:
    draw = np.random.default_rng(outputs * inputs + rank)
    base = stored(draw.standard_normal((outputs, inputs)).astype(np.float32), dtype)
    up, down = (
        draw.standard_normal(shape).astype(np.float32)
        for shape in ((outputs, rank), (rank, inputs))
    )
    return LowRankUpdate(Tensor(dtype, base), up, down)


def by_source(host: ctypes.CDLL, name: str, given: LowRankUpdate) -> Tensor:
    made = given.base.values.copy()
    (outputs, rank), inputs = given.up.shape, given.down.shape[1]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (made, given.up, given.down)]
    grid = -(-inputs // 256), -(-outputs // 8), 256
    getattr(host, f"launch_{name}")(*grid, *pointers, outputs, inputs, rank)
    return Tensor(given.base.dtype, made)


def by_ptx(programs: dict[str, Program], name: str, given: LowRankUpdate) -> Tensor:
    base = given.base.values
    (outputs, rank), inputs = given.up.shape, given.down.shape[1]
    arrays = [
        Array(of, (i + 1) << 40, each.reshape(-1).view("u1"))
        for i, (of, each) in enumerate((("weight", base), ("up", given.up), ("down", given.down)))
    ]
    parameters = struct.pack("<3Q3i", *(each.address for each in arrays), outputs, inputs, rank)
    grid = -(-inputs // 256), -(-outputs // 8), 1
    made = launch(programs[name], grid, 256, parameters, arrays)["weight"]
    return Tensor(given.base.dtype, made.view(base.dtype).reshape(base.shape))


def by_fake(name: str, given: LowRankUpdate) -> Tensor:
    arrays = [given.base.values.copy(), given.up.copy(), given.down.copy()]

    def view(address: int, size: int) -> np.ndarray:
        return arrays[address].reshape(-1).view(np.uint8)[:size]

    (outputs, rank), inputs = given.up.shape, given.down.shape[1]
    KERNELS[name](view, (0, 1, 2, outputs, inputs, rank))
    return Tensor(given.base.dtype, arrays[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_low_rank_update_is_what_its_product_comes_to(
    dtype: str, shape: tuple[int, int, int], host: ctypes.CDLL, programs: dict[str, Program]
) -> None:
    given = update(dtype, *shape)
    expected = given.merged().fp32()
    name = f"low_rank_{dtype.lower()}"
    # A sum in another order may round to the neighbour.
    neighbour = {"F32": 1e-5, "F16": 2**-10, "BF16": 2**-7}[dtype]
    by_text = by_ptx(programs, name, given)
    for made in (by_source(host, name, given), by_fake(name, given), by_text):
        assert made.values.dtype == given.base.values.dtype
        np.testing.assert_allclose(made.fp32(), expected, rtol=neighbour, atol=1e-5)
        assert (made.fp32() == expected).mean() > (0.2 if dtype == "F32" else 0.99)


@pytest.mark.parametrize("number", [0.0, -0.0, 65504.0, 65520.0, 6e-8, 2.0**-25, 1e-30, 1 / 3])
def test_numbers_at_the_ends_of_fp16_and_bf16_are_rounded_as_numpy_does(
    number: float, host: ctypes.CDLL, programs: dict[str, Program]
) -> None:
    for dtype in ("F16", "BF16"):
        base = Tensor(dtype, stored(np.zeros((1, 1), np.float32), dtype))
        given = LowRankUpdate(
            base, np.full((1, 1), number, np.float32), np.ones((1, 1), np.float32)
        )
        name = f"low_rank_{dtype.lower()}"
        for made in (by_source(host, name, given), by_ptx(programs, name, given)):
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
