"""Offsets that bring the tones of neighbouring tiles together."""

import numpy as np

from runtime.draw.tones import HOLD, Tone, matching_offsets


def row_of_tiles(tones: Tone) -> list[tuple[int, int, Tone]]:
    """Neighbours in a row of even tiles, each `[3]` of one tone."""
    return [(at, at + 1, tones[at + 1] - tones[at]) for at in range(len(tones) - 1)]


def test_tiles_of_one_tone_keep_it() -> None:
    offsets = matching_offsets(4, row_of_tiles(np.full((4, 3), 200.0)))
    assert not offsets.any()


def test_two_tiles_meet_nearly_in_the_middle() -> None:
    difference = np.array([6.0, -3.0, 0.0])
    first, second = matching_offsets(2, [(0, 1, difference)])
    np.testing.assert_allclose(first, difference / (2 + HOLD))
    np.testing.assert_allclose(second, -first)


def test_a_tile_that_is_off_comes_to_its_neighbours_and_moves_them_little() -> None:
    tones = np.zeros((5, 3))
    tones[2] = 8
    matched = tones + matching_offsets(5, row_of_tiles(tones))
    assert np.ptp(matched) < 0.1 * np.ptp(tones)
    assert abs(matched.mean() - tones.mean()) < 1e-9
