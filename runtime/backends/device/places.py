"""The places of several weights in one piece of device memory."""

from itertools import accumulate

from runtime.backends.low_rank import Weights, base_of

_ALIGNMENT = 256


def offsets(weights: Weights) -> tuple[dict[str, int], int]:
    """Each weight's offset in one piece of memory that holds all of them, and the size of the
    piece, in bytes.
    """
    rooms = [
        -(-base_of(weight).size_bytes // _ALIGNMENT) * _ALIGNMENT for weight in weights.values()
    ]
    begins = list(accumulate(rooms, initial=0))
    return dict(zip(weights, begins, strict=False)), begins[-1]
