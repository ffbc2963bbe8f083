"""Copies of CUDA's runtime in this process, beside the one that `cuda-bindings` has inside.

A library such as ONNX Runtime brings its own `libcudart`. Each copy keeps the last error of each
thread until somebody reads it there.

https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__ERROR.html
"""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

ReadError = Callable[[], int]
"""`cudaGetLastError` of one copy: returns the calling thread's last error and clears it."""

_MAPS = Path("/proc/self/maps")


def loaded_runtimes(maps: Path = _MAPS) -> Iterator[ReadError]:
    """Every copy that is loaded as a library of its own; `maps` lists what this process maps.

    A copy that is linked into another library has no name by which it could be found.
    """
    if not maps.exists():  # Not Linux.
        return
    fields = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
    paths = {each[5] for each in fields if len(each) > 5}
    for path in sorted(paths):
        # A file that was replaced since it was loaded has another name there, and cannot be opened.
        if Path(path).name.startswith("libcudart.so") and Path(path).exists():
            yield ctypes.CDLL(path).cudaGetLastError
