"""A worker's part of the machine: a GPU of its own, or a share of the cores and the memory."""

import os

from runtime.draw.room import SHARE
from runtime.machine import available_bytes, keep_to_share
from runtime.wire.options import Place


def take_place(place: Place) -> None:
    """Keep this process to its part; libraries look at the machine once, and must not have yet."""
    if place.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    elif place.of > 1:
        keep_to_share(place.number, place.of)


def memory_share(place: Place, most: int | None) -> int | None:
    """The most memory in bytes that calls of a worker on the CPU may take, where all workers
    together may take `most`, or by default what one alone may. None where nothing is known.
    """
    if place.of == 1:
        return most
    available = available_bytes()
    if most is None and available is not None:
        most = int(SHARE * available)
    return most and most // place.of
