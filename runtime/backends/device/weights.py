"""Writes weights into the device's memory; low-rank updates are multiplied there.

For an update, the package's own weight is uploaded as it is stored, and beside it the two factors,
a hundredth of its size. The sum is never in host memory.
"""

from collections.abc import Iterable
from ctypes import c_int, c_void_p
from itertools import accumulate
from pathlib import Path

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.module import Module
from runtime.backends.device.staging import PinnedPool, Uploads
from runtime.backends.device.stream import Stream
from runtime.backends.low_rank import LowRankUpdate, Weight, Weights, base_of

KERNELS = Path(__file__).parent / "kernels" / "low_rank.ptx"

# These follow low_rank.cu: its kernels by dtype, and the number of rows that a block computes.
_NAMES = {"F32": "low_rank_f32", "F16": "low_rank_f16", "BF16": "low_rank_bf16"}
_ROWS = 8
_THREADS = 256

_ALIGNMENT = 256

_TYPES = (c_void_p, c_void_p, c_void_p, c_int, c_int, c_int)


def offsets(weights: Weights) -> tuple[dict[str, int], int]:
    """Each weight's offset in one piece of memory that holds all of them, and the size of the
    piece, in bytes.
    """
    rooms = [
        -(-base_of(weight).size_bytes // _ALIGNMENT) * _ALIGNMENT for weight in weights.values()
    ]
    begins = list(accumulate(rooms, initial=0))
    return dict(zip(weights, begins, strict=False)), begins[-1]


class DeviceWeights:
    """Writes weights to addresses on the device, in the order of a stream. For one thread."""

    def __init__(self, cuda: Cuda, stream: Stream, pinned: PinnedPool) -> None:
        """The kernels are loaded with the first low-rank update."""
        self._cuda = cuda
        self._stream = stream
        self._uploads = Uploads(pinned, stream)
        self._module: Module | None = None

    def write(self, weights: Iterable[tuple[Weight, int]]) -> None:
        """Write each weight to its address, and wait. Raises BackendError where the device's memory
        does not hold the factors.
        """
        given = list(weights)
        updates = [weight for weight, _ in given if isinstance(weight, LowRankUpdate)]
        most = max((update.size_bytes for update in updates), default=0)
        factors = self._cuda.allocate(most, "LoRA factors")
        try:
            for weight, address in given:
                # The stream keeps the order, so that all updates share the memory for factors.
                self._write(weight, address, factors.address)
            self._stream.synchronize()
        finally:
            self._cuda.free(factors)

    def _write(self, weight: Weight, address: int, factors: int) -> None:
        base = base_of(weight)
        self._uploads.put(base.values, address)
        if isinstance(weight, LowRankUpdate):
            down = factors + weight.up.nbytes
            self._uploads.put(weight.up, factors)
            self._uploads.put(weight.down, down)
            outputs, rank = weight.up.shape
            inputs = weight.down.shape[1]
            grid = -(-inputs // _THREADS), -(-outputs // _ROWS)
            values = address, factors, down, outputs, inputs, rank
            name = _NAMES[base.dtype]
            self._kernels().launch(name, self._stream, grid, _THREADS, (values, _TYPES))
        self._uploads.end_round()

    def _kernels(self) -> Module:
        """The kernels, loaded at the first use."""
        if self._module is None:
            self._module = Module(self._cuda, KERNELS.read_bytes())
        return self._module
