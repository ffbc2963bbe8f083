"""The shelf of models, which several threads look at and hold at once."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from runtime.worker.opening import Opened
from runtime.worker.shelf import Shelf
from runtime.worker.shelf_room import ModelNeeds, ShelfRoom


@dataclass
class Model:
    """A model with its engines open, as the shelf sees one."""

    name: str
    turns: object = None


def opened(name: str) -> Opened:
    return cast(Opened, Model(name))


@pytest.fixture
def _often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_often")
def test_a_model_is_never_gone_while_another_thread_holds_it() -> None:
    """The loop would take it for one that has no picture to draw, and rest for ever."""
    shelf = Shelf(opened("one"))
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            shelf.hold("one")
            shelf.release("one")

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        seen = [(len(shelf.loaded), shelf.find("one") is None) for _ in range(20_000)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {(1, False)}


def test_what_was_held_last_is_given_up_last() -> None:
    shelf = Shelf(opened("one"))
    shelf.room = ShelfRoom(3, dict.fromkeys(("one", "two", "three", "four"), ModelNeeds(1, 0)))
    for name in ("two", "three"):
        assert shelf.make_room(name) == []
        shelf.put(opened(name))
    assert [each.name for each in shelf.loaded] == ["three", "two", "one"]
    assert shelf.hold("one") is not None
    shelf.release("one")
    assert names(shelf.make_room("four")) == ["two"]
    assert [each.name for each in shelf.loaded] == ["one", "three"]
    assert (shelf.evictions(), shelf.evictions()) == (1, 0)


def test_nothing_that_is_held_is_given_up() -> None:
    shelf = Shelf(opened("one"))
    assert shelf.make_room("two") is None
    shelf.room = ShelfRoom(1, dict.fromkeys(("one", "two"), ModelNeeds(1, 0)))
    shelf.hold("one")
    assert shelf.make_room("two") is None
    shelf.release("one")
    assert names(shelf.make_room("two")) == ["one"]
    assert shelf.find("one") is None
    assert shelf.hold("one") is None


def names(models: Any) -> list[str]:
    return [each.name for each in models]
