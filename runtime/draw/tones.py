"""The tones of a picture's tiles, brought together where tiles overlap.

A tile's group norms shift its colours by some levels of 255, which shows on an even ground however
softly tiles fade into one another. So each tile gets an offset for each channel, by which it and
its neighbours come to the same mean in their overlaps, as near as all tiles together can: the
compensation of exposures in a panorama (M. Brown and D. Lowe, Automatic Panoramic Image Stitching
using Invariant Features, 2007), with offsets in the place of factors.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HOLD = 0.1
"""The weight of a tile's own tone, against 1 for that of each neighbour."""

Tone = NDArray[np.float64]
"""`[3]`, in levels of 255."""


def matching_offsets(tiles: int, overlaps: Iterable[tuple[int, int, Tone]]) -> NDArray[np.float64]:
    """Offsets `[tiles, 3]`, the least squares of what stays between neighbours and of the offsets.

    `overlaps` are pairs of tiles with the mean of the second less the mean of the first there.
    """
    system, sides = HOLD * np.eye(tiles), np.zeros((tiles, 3))
    for first, second, difference in overlaps:
        for one, other, sign in ((first, second, 1), (second, first, -1)):
            system[one, one] += 1
            system[one, other] -= 1
            sides[one] += sign * difference
    return np.asarray(np.linalg.solve(system, sides), np.float64)
