"""Copies of CUDA's runtime are found wherever they were loaded from, and their errors read away."""

import ctypes
import subprocess
from pathlib import Path

from runtime.backends.device.runtimes import loaded_runtimes

# The last error of a thread, as CUDA's runtime keeps it.
SOURCE = """
static __thread int last;
void fail(int code) { last = code; }
int cudaGetLastError(void) { int found = last; last = 0; return found; }
"""


def compiled(folder: Path, name: str) -> ctypes.CDLL:
    folder.mkdir()
    (folder / "runtime.c").write_text(SOURCE)
    library = folder / name
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(library), str(folder / "runtime.c")], check=True
    )
    return ctypes.CDLL(str(library))


def test_every_copy_that_is_loaded_is_found_and_its_error_forgotten(tmp_path: Path) -> None:
    before = len(list(loaded_runtimes()))
    first = compiled(tmp_path / "a", "libcudart.so.13")
    second = compiled(tmp_path / "b", "libcudart.so.12.9.79")
    compiled(tmp_path / "c", "libcublas.so.13")
    assert len(list(loaded_runtimes())) == before + 2
    first.fail(900)
    second.fail(2)
    found = [read_error() for read_error in loaded_runtimes()]
    assert sorted(code for code in found if code) == [2, 900]
    assert (first.cudaGetLastError(), second.cudaGetLastError()) == (0, 0)


def test_a_library_whose_file_is_gone_is_passed_over(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 42 /nowhere/libcudart.so.13 (deleted)\n"
        "7f02-7f03 rw-p 00000000 00:00 0\n"
    )
    assert list(loaded_runtimes(maps)) == []
    assert list(loaded_runtimes(tmp_path / "no maps")) == []
