"""Calls that do not fit are made in parts, and what was kept goes back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from runtime.backends.protocol import Array, Reading, Row
from runtime.draw.costs import Kind
from runtime.draw.decode_room import DecodeRoom
from runtime.draw.room import LARGE, Room
from runtime.draw.roomy import RoomyDecoder, RoomyDenoiser, evaluations_that_fit
from runtime.errors import BackendError, DeviceError
from runtime.plan.call_room import CallRoom

SIDE = 8
NEEDS = CallRoom(LARGE / SIDE**2)
"""An evaluation takes LARGE."""
LACKING = BackendError("denoiser: ONNX Runtime failed: Failed to allocate memory for requested")


class Counting:
    """A denoiser that notes the evaluations of its calls, and fails for more than it holds."""

    def __init__(self, most: int = 99, error: Exception = LACKING) -> None:
        self.calls: list[int] = []
        self.failed: list[int] = []
        self.gave_back = 0
        self.holds_more_once_given_back = False
        self._most = most
        self._error = error
        self._slots = iter(range(99))

    def admit(self, latents: Array, evaluations: Sequence[Mapping[str, Array]]) -> int:
        del latents, evaluations
        return next(self._slots)

    def advance(self, rows: Sequence[Row]) -> None:
        evaluations = sum(len(row.mix) for row in rows)
        if evaluations > self._most:
            self.failed.append(evaluations)
            raise self._error
        self.calls.append(evaluations)

    def replace_weights(self, weights: Mapping[str, Any]) -> None: ...

    def latents(self, slot: int) -> Reading:
        raise NotImplementedError

    predicted = latents

    def release(self, slot: int) -> None: ...

    def give_back(self) -> None:
        self.gave_back += 1
        self._most += self.holds_more_once_given_back


def roomy(
    denoiser: Counting, most: int, samples: int, usual: int = 99 * LARGE
) -> tuple[RoomyDenoiser, list[Row]]:
    made = RoomyDenoiser(denoiser, NEEDS, Room(lambda: None, most * LARGE, on_device=True), usual)
    latents = np.zeros((1, 4, SIDE, SIDE), np.float32)
    slots = [made.admit(latents, []) for _ in range(samples)]
    return made, [Row(slot, 0.0, np.zeros(11, np.float32), None, (2.0, -1.0), 0) for slot in slots]


def test_a_call_is_made_whole_where_it_fits() -> None:
    denoiser = Counting()
    made, rows = roomy(denoiser, most=8, samples=4)
    made.advance(rows)
    assert denoiser.calls == [8]


def test_samples_that_do_not_fit_together_are_drawn_in_parts() -> None:
    denoiser = Counting()
    made, rows = roomy(denoiser, most=4, samples=5)
    made.advance(rows)
    assert denoiser.calls == [4, 2, 4]
    assert not denoiser.failed


def test_a_call_that_lacked_memory_is_made_smaller_and_none_so_large_is_tried_again() -> None:
    denoiser = Counting(most=4)
    made, rows = roomy(denoiser, most=99, samples=4)
    made.advance(rows)
    made.advance(rows)
    assert denoiser.failed == [8]
    assert denoiser.calls == [4, 4, 4, 4]


def test_a_sample_that_found_no_memory_alone_is_tried_once_more_with_all_given_back() -> None:
    denoiser = Counting(most=1)
    made, rows = roomy(denoiser, most=99, samples=1)
    denoiser.holds_more_once_given_back = True
    made.advance(rows)
    assert (denoiser.failed, denoiser.calls, denoiser.gave_back) == ([2], [2], 1)


@pytest.mark.parametrize(
    ("most", "samples", "error"),
    [
        (1, 1, LACKING),
        (2, 2, BackendError("denoiser: no engine takes this")),
        (2, 2, DeviceError("cudaMemcpy: out of memory")),
    ],
)
def test_any_other_failure_is_the_caller_s(most: int, samples: int, error: Exception) -> None:
    denoiser = Counting(most, error)
    made, rows = roomy(denoiser, most=99, samples=samples)
    with pytest.raises(type(error)) as raised:
        made.advance(rows)
    assert raised.value is error
    assert not denoiser.calls


@pytest.mark.parametrize(("usual", "times"), [(1, 1), (8, 0)])
def test_what_was_kept_goes_back_behind_the_last_sample(usual: int, times: int) -> None:
    denoiser = Counting()
    made, rows = roomy(denoiser, most=99, samples=2, usual=usual * LARGE)
    made.advance(rows)
    made.release(rows[0].slot)
    assert not denoiser.gave_back
    made.release(rows[1].slot)
    assert denoiser.gave_back == times


def test_a_rest_gives_back_what_the_calls_since_the_last_one_left() -> None:
    denoiser = Counting()
    made, rows = roomy(denoiser, most=8, samples=1)
    assert not made.keeps
    made.advance(rows)
    assert made.keeps
    made.rest()
    assert (made.keeps, denoiser.gave_back) == (False, 1)


def test_what_was_kept_goes_back_before_a_larger_call() -> None:
    denoiser = Counting()
    made, rows = roomy(denoiser, most=99, samples=3)
    made.advance(rows[:2])
    made.advance(rows[:1])
    assert not denoiser.gave_back
    made.advance(rows)
    assert denoiser.gave_back == 1
    made.advance(rows)
    assert denoiser.gave_back == 1


def test_the_schedule_is_told_how_many_evaluations_fit() -> None:
    fitting = evaluations_that_fit(NEEDS, Room(lambda: None, 6 * LARGE))
    assert fitting(Kind(SIDE, SIDE, adapted=False)) == 6
    assert fitting(Kind(SIDE, 2 * SIDE, adapted=True)) == 3


class Black:
    """A VAE of black pictures."""

    def __init__(self) -> None:
        self.gave_back = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        _, _, height, width = inputs["latents"].shape
        return {"image": np.zeros((1, 8 * height, 8 * width, 3), np.uint8)}

    def give_back(self) -> None:
        self.gave_back += 1


@pytest.mark.parametrize(("side", "times"), [(16, 0), (64, 1)])
def test_a_picture_larger_than_the_usual_leaves_no_memory_behind(side: int, times: int) -> None:
    engine: Any = Black()
    needs = DecodeRoom(scale=8, usual=256, bytes_per_pixel=LARGE / 128**2)
    decoder = RoomyDecoder(engine, needs, Room(lambda: None, 99 * LARGE, on_device=True))
    pixels = decoder.decode(np.zeros((1, 4, side, side), np.float32))
    assert pixels.shape == (8 * side, 8 * side, 3)
    assert engine.gave_back == times
