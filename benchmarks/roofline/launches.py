"""The work of one kernel's launch, and the seconds that a GPU takes for it."""

from dataclasses import dataclass

from benchmarks.roofline.gpus import Gpu, Rate


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product `[M, K] x [K, N]`, `batch` times: also a convolution, as cuDNN computes it,
    with pixels as M, a window's values as K and channels as N."""

    M: int
    N: int
    K: int
    batch: int = 1
    size: int = 2
    """Bytes of an element; products of four-byte elements run as TF32."""

    @property
    def flops(self) -> int:
        """Operations, multiplications and additions counted each."""
        return 2 * self.batch * self.M * self.N * self.K


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch, or a fraction of one where only some nodes of a kind have it.

    A kernel takes a fixed time and then what takes longest: its product, its attention, its bytes,
    the reads that its threads wait for one after another, or its threads' own work, which is the
    sum of accesses, indices and instructions.
    """

    kind: str
    launches: float = 1
    product: Product | None = None
    rate: Rate = "products"
    """Of the product or the attention."""
    attention: float = 0
    """Operations of a fused attention."""
    bytes: int = 0
    """Bytes read and written, of operands that are not small vectors."""
    accesses: int = 0
    """Loads and stores of a thread that move one element each."""
    indices: int = 0
    """Elements whose place is computed by divisions."""
    instructions: int = 0
    """Instructions of arithmetic, beside loads and stores."""
    in_phases: bool = False
    """True where a block reads, computes between barriers, and then writes: few blocks fit beside
    each other, and what one computes is hidden in part alone behind what others move."""
    waits: float = 0
    """Reads of a thread that each wait for the one before."""
    extra: float = 0.0
    """Seconds that no quantity above explains, measured on kernels of this kind."""


def seconds(launch: Launch, gpu: Gpu) -> float:
    """Predicted seconds of a launch."""
    moved = launch.bytes / (gpu.l2_bandwidth if launch.bytes <= gpu.l2_bytes else gpu.bandwidth)
    threads = (
        launch.accesses * gpu.access
        + launch.indices * gpu.index
        + launch.instructions / gpu.instructions
    )
    whole = gpu.fixed + max(
        moved,
        threads,
        launch.waits * gpu.latency,
        launch.attention / gpu.rates[launch.rate],
        _of_product(launch.product, launch.rate, gpu) if launch.product is not None else 0.0,
    )
    if launch.in_phases:
        whole += gpu.unhidden * min(moved, threads)
    return launch.launches * (whole + launch.extra)


_TILE_ROWS = (64, 128, 192, 256)
_TILE_COLUMNS = (64, 96, 128, 160, 192, 224, 256)
_LARGEST_TILE = 128 * 256
"""Elements of the sums that a multiprocessor's registers hold."""
_FULL_SPEED = 128
"""The harmonic mean of a tile's sides from which loads keep up with the tensor cores; a smaller
tile is as much slower, since it uses each loaded element so much less often."""
_SPLITS = (1, 2, 4)
"""Parts that K may be split in, so that more multiprocessors work."""


def _of_product(product: Product, rate: Rate, gpu: Gpu) -> float:
    """Seconds of a product by the best tiles. All multiprocessors compute a tile at a time, so that
    a last wave of few tiles takes as long as a full one. No product passes the fastest rate."""
    ramp = gpu.ramp if rate == "products" else 0.0
    least = product.flops * product.size / 2 / gpu.fastest
    speed = gpu.rates[rate] / gpu.multiprocessors * 2 / product.size
    best = float("inf")
    for rows in _TILE_ROWS:
        for columns in _TILE_COLUMNS:
            if rows * columns > _LARGEST_TILE:
                continue
            tiles = product.batch * -(-product.M // rows) * -(-product.N // columns)
            reuse = min(1.0, 2 * rows * columns / (rows + columns) / _FULL_SPEED)
            for parts in _SPLITS:
                waves = -(-tiles * parts // gpu.multiprocessors)
                tile = 2 * rows * columns * product.K / parts / (speed * reuse)
                joined = gpu.fixed if parts > 1 else 0.0
                best = min(best, waves * tile + joined)
    return max(ramp + best, least)
