"""Files of weights whose numbers are made from a seed, so that they need not travel.

A safetensors file begins with a header that holds every tensor's name, dtype and place. A *hollow*
file is that header alone. `fill` writes the numbers behind the header. A tensor's numbers depend on
its name, dtype and shape alone: two machines write the same, and a checkpoint and the package that
was built of it are filled apart from each other and have the same weights.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine_build.checkpoint.headers import raw_header

_LENGTH = 8
"""Bytes that hold the length of a header."""
_PIECE = 2**24
"""Bytes that are made at once; a multiple of 8."""
_WORTH_PROCESSES = 2**28
"""Bytes from which several processes write files: each takes a second to start."""

# transformers writes a CLIP encoder's names without this prefix, and packages have names with it.
_PREFIX = "text_model."

# Random signs and mantissas under one exponent, 2**-6: small finite numbers of both signs.
_BITS = {"F16": (0x83FF, 0x2400), "BF16": (0x807F, 0x3C80)}


def write_header(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> None:
    """Write a hollow file of tensors of 16 bits; `dtype` is F16 or BF16."""
    header, position = {}, 0
    for name, shape in shapes.items():
        end = position + 2 * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(_LENGTH, "little") + encoded)


def stretch(path: Path) -> None:
    """Give a hollow file its full size with a hole in the place of the numbers."""
    _, begin, size = _header(path)
    with path.open("r+b") as file:
        file.truncate(begin + size)


def empty(path: Path) -> None:
    """Make a file hollow: its numbers are dropped."""
    _, begin, _ = _header(path)
    with path.open("r+b") as file:
        file.truncate(begin)


def is_hollow(path: Path) -> bool:
    """True for a file without its numbers."""
    _, begin, size = _header(path)
    return path.stat().st_size < begin + size


def fill(path: Path, advance: Callable[[int], object]) -> None:
    """Write the numbers of a hollow file; `advance` hears of bytes written.

    Raises ValueError for a tensor of another dtype than F16 and BF16.
    """
    content, begin, _ = _header(path)
    with path.open("r+b") as out:
        for name, tensor in content.items():
            if tensor["dtype"] not in _BITS:
                raise ValueError(
                    f"{path}: {name} is {tensor['dtype']}; expected one of {', '.join(_BITS)}"
                )
            first, end = tensor["data_offsets"]
            out.seek(begin + first)
            mask, exponent = _BITS[tensor["dtype"]]
            what = json.dumps([name.removeprefix(_PREFIX), tensor["dtype"], tensor["shape"]])
            for chance in _random(zlib.crc32(what.encode()), end - first):
                bits = (chance & np.uint16(mask)) | np.uint16(exponent)
                out.write(bits.data)
                advance(bits.nbytes)


def fill_hollow(folder: Path) -> None:
    """Write the numbers of every hollow file below a folder, a file a core, and show progress."""
    hollow = [path for path in weights_of(folder) if is_hollow(path)]
    sizes = [numbers_bytes(path) for path in hollow]
    total = sum(sizes)
    if total < _WORTH_PROCESSES:
        for path in hollow:
            fill(path, lambda _: None)
        return
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="weights")
    # The largest first, so that no core is left with one of them at the end. A forked process could
    # hold locks of threads that it has not.
    order = sorted(zip(sizes, hollow, strict=True), key=lambda each: -each[0])
    with bar, get_context("spawn").Pool(min(len(hollow), os.cpu_count() or 1)) as pool:
        for size in pool.imap_unordered(_filled, [path for _, path in order]):
            bar.update(size)


def _filled(path: Path) -> int:
    fill(path, lambda _: None)
    return numbers_bytes(path)


def weights_of(folder: Path) -> list[Path]:
    """All files of weights below a folder, in order."""
    return sorted(folder.rglob("*.safetensors"))


def numbers_bytes(path: Path) -> int:
    """Size of a file's numbers, whether they are there or not."""
    return _header(path)[2]


def _random(seed: int, size: int) -> Iterator[NDArray[np.uint16]]:
    # The raw stream of a bit generator is the same in every version of NumPy.
    source = np.random.PCG64(seed)
    while size:
        count = min(size, _PIECE)
        yield source.random_raw(-(-count // 8)).view(np.uint16)[: count // 2]
        size -= count


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """Tensors of the header, without metadata; where the numbers begin; how many bytes they are."""
    content, begin = raw_header(path)
    content.pop("__metadata__", None)
    ends = [tensor["data_offsets"][1] for tensor in content.values()]
    return content, begin, max(ends, default=0)
