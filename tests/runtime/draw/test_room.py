"""Calls wait for room, and are corrected by what they took."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from runtime.draw.room import LARGE, SHARE, Room

MEGABYTE = 2**20


def test_a_share_of_what_is_free_at_the_start_is_taken() -> None:
    assert Room(lambda: 1000).most == int(SHARE * 1000)
    assert Room(lambda: 1000, 300).most == 300
    assert Room(lambda: None).most is None
    assert Room(lambda: None).fitting("vae", 2**60) == float("inf")
    assert Room(lambda: 1000, 300).free() == 300
    assert Room(lambda: 200, 300).free() == 200


def test_as_many_calls_fit_as_the_memory_holds() -> None:
    room = Room(lambda: None, 1000 * MEGABYTE, on_device=True)
    assert room.fitting("denoiser", 100 * MEGABYTE) == 10
    room.lacked("denoiser", 500 * MEGABYTE, "out of memory")
    assert 4 < room.fitting("denoiser", 100 * MEGABYTE) < 5
    assert room.fitting("vae", 100 * MEGABYTE) == 10


def test_what_is_free_on_a_device_bounds_nothing() -> None:
    room = Room(lambda: LARGE, on_device=True)
    assert room.fitting("denoiser", 99 * LARGE) == float("inf")
    with room.taken("denoiser", 99 * LARGE):
        pass
    assert room.free() == LARGE


def test_a_call_waits_until_others_leave_it_room() -> None:
    room = Room(lambda: None, 3 * LARGE)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(room.taken("denoiser", 2 * LARGE))
        began = threading.Event()
        second = pool.submit(_call, room, 2 * LARGE, began)
        # A call that fits beside the first one is made at once.
        with room.taken("vae", LARGE):
            assert not second.done()
        assert not began.is_set()
        first.close()
        assert second.result(60) is True


def test_a_call_that_is_larger_than_all_room_is_made_alone() -> None:
    room = Room(lambda: None, LARGE)
    with room.taken("vae", 9 * LARGE):
        pass
    with ThreadPoolExecutor(1) as pool:
        with room.taken("vae", LARGE):
            waiting = pool.submit(_call, room, 9 * LARGE, threading.Event())
        assert waiting.result(60) is True


def test_a_call_that_found_no_memory_is_alone() -> None:
    room = Room(lambda: None, 9 * LARGE)
    with ThreadPoolExecutor(1) as pool:
        with room.alone():
            waiting = pool.submit(_call, room, LARGE, threading.Event())
            assert not waiting.done()
        assert waiting.result(60) is True


def test_a_failed_call_leaves_its_room() -> None:
    room = Room(lambda: None, LARGE)
    with pytest.raises(ValueError, match="broken"), room.taken("vae", LARGE):
        raise ValueError("broken")
    done: Future[bool] = ThreadPoolExecutor(1).submit(_call, room, LARGE, threading.Event())
    assert done.result(60)


def test_a_call_waits_for_memory_that_other_programs_have() -> None:
    free = iter([99 * LARGE, 0, LARGE // 2, LARGE])
    room = Room(lambda: next(free))
    with room.taken("vae", LARGE):
        assert next(free, None) is None


def test_what_is_kept_goes_back_where_it_is_more_than_usual_or_all_keep_too_much() -> None:
    room = Room(lambda: None, 5 * LARGE, on_device=True)
    with room.taken("denoiser", 3 * LARGE):
        pass
    assert room.keeps_too_much("denoiser", 2 * LARGE)
    assert not room.keeps_too_much("denoiser", 3 * LARGE)
    with room.taken("vae", 3 * LARGE):
        pass
    assert room.keeps_too_much("denoiser", 3 * LARGE)
    room.given_back("denoiser")
    assert not room.keeps_too_much("denoiser", LARGE)
    assert not room.keeps_too_much("vae", 3 * LARGE)


def test_the_first_large_call_corrects_the_estimates() -> None:
    room = Room(lambda: None, 1000 * MEGABYTE)
    with room.taken("vae", 100 * MEGABYTE):
        held = np.ones(200 * MEGABYTE, np.uint8)
    assert held.any()
    assert room.fitting("vae", 100 * MEGABYTE) == pytest.approx(5, rel=0.1)
    assert room.fitting("denoiser", 100 * MEGABYTE) == 10
    with room.taken("vae", 100 * MEGABYTE):
        pass
    assert room.fitting("vae", 100 * MEGABYTE) == pytest.approx(5, rel=0.1)


def test_a_call_beside_another_corrects_nothing() -> None:
    room = Room(lambda: None, 1000 * MEGABYTE)
    with room.taken("vae", 100 * MEGABYTE):
        with room.taken("denoiser", 100 * MEGABYTE):
            held = np.ones(200 * MEGABYTE, np.uint8)
        assert held.any()
    assert room.fitting("vae", 100 * MEGABYTE) == 10
    assert room.fitting("denoiser", 100 * MEGABYTE) == 10


def _call(room: Room, wanted: int, began: threading.Event) -> bool:
    with room.taken("denoiser", wanted):
        began.set()
    return True
