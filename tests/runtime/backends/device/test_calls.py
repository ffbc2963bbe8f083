"""Which calls are kept ready, and which make room."""

import pytest

from runtime.backends.device import calls
from runtime.backends.device.calls import Calls
from runtime.backends.device.cuda import Cuda
from runtime.backends.device.stream import Stream
from tests.fakes.cuda import FakeCuda


class Kept:
    """Stands for a call; remembers what became of it."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.freed = 0

    def free(self) -> None:
        self.freed += 1


def test_the_shape_that_was_used_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST", 2)
    fake = FakeCuda()
    kept: Calls[Kept] = Calls(Stream(Cuda(fake, fake), urgent=True))

    def at(width: int) -> Kept:
        return kept.at({"latents": (1, width)}, lambda: Kept(width))

    first, second = at(1), at(2)
    assert at(1) is first
    third = at(3)
    assert [each.width for each in kept] == [1, 3]
    assert [each.freed for each in (first, second, third)] == [0, 1, 0]
    kept.free()
    assert [each.freed for each in (first, second, third)] == [1, 1, 1]
    assert list(kept) == []


def test_nothing_is_freed_that_may_be_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST", 1)
    fake = FakeCuda()
    stream = Stream(Cuda(fake, fake), urgent=True)
    kept: Calls[Kept] = Calls(stream)
    first = kept.at({"latents": (1, 1)}, lambda: Kept(1))
    freed_when_done: list[int] = []
    fake.enqueue(stream.address, lambda: freed_when_done.append(first.freed))
    kept.at({"latents": (1, 2)}, lambda: Kept(2))
    assert freed_when_done == [0]
    assert first.freed == 1
