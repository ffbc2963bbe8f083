"""A worker keeps to its part of the machine."""

import os
import subprocess
import sys

import pytest

from runtime.wire.options import Place
from runtime.worker import place as module
from runtime.worker.place import memory_share

TAKE = """
import os, sys
from runtime.wire.options import Place
from runtime.worker.place import take_place

take_place(Place(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), *sorted(os.sched_getaffinity(0)))
"""


def taken(number: int, of: int, gpu: str = "") -> list[str]:
    """The GPUs and the processors of a process that took this place."""
    command = [sys.executable, "-c", TAKE, str(number), str(of), gpu]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_place_is_a_gpu_or_a_share_of_the_cores() -> None:
    all_of_them = list(map(str, sorted(os.sched_getaffinity(0))))
    assert taken(1, 2, "3") == ["3", *all_of_them]
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES", "None")
    assert taken(0, 1) == [inherited, *all_of_them]
    shares = [taken(number, 2)[1:] for number in (0, 1)]
    assert sorted(set().union(*shares), key=int) == all_of_them
    if len(all_of_them) > 1:
        assert not set(shares[0]) & set(shares[1])
    assert all(len(taken(number, 64)) > 1 for number in (0, 63))


@pytest.mark.parametrize(
    ("place", "most", "share"),
    [
        (Place(), None, None),
        (Place(), 100, 100),
        (Place(1, 2), 100, 50),
        (Place(1, 2), None, 400),
    ],
)
def test_memory_is_shared_by_the_workers(
    place: Place, most: int | None, share: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 1000)
    assert memory_share(place, most) == share


def test_a_machine_that_does_not_tell_its_memory_bounds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    assert memory_share(Place(0, 2), None) is None
