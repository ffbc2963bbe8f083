"""The sizes that the memory holds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.package.manifest import Manifest, read_manifest
from runtime.plan.call_room import CallRoom
from runtime.plan.model import Model, open_model
from runtime.plan.served import Served, served_by
from runtime.plan.size_room import SizeRoom, size_room
from tests.places import ENGINES

MEGABYTE = 2**20
NEEDS = CallRoom(1000.0, 20.0)
OWN = read_manifest(ENGINES / "demo")[0]
MANIFEST = replace(OWN, limits=replace(OWN.limits, max_size=1024))
MEMORY = st.integers(0, 1200 * MEGABYTE)


@pytest.fixture(scope="module")
def model() -> Model:
    opened = open_model(ENGINES, "demo")
    return replace(opened, package=replace(opened.package, manifest=MANIFEST))


def within(memory: int | None, manifest: Manifest = MANIFEST) -> Served:
    return served_by(None, manifest).within(memory, NEEDS, manifest)


@given(MEMORY)
def test_corners_fit_and_are_the_largest_of_their_ratio(memory: int) -> None:
    room, limits = size_room(memory, NEEDS, MANIFEST), MANIFEST.limits
    for width, height in room.corners(limits):
        smallest = min(width, height) == limits.min_size
        assert room.wanted(width, height) <= memory or smallest
        square = width == height
        assert not square or room.wanted(width + 32, height + 32) > memory
        assert width % limits.multiple_of == height % limits.multiple_of == 0


def test_more_memory_takes_all_that_less_takes() -> None:
    for memory in range(0, 1200 * MEGABYTE, 100 * MEGABYTE):
        more = within(memory + 100 * MEGABYTE)
        for size in within(memory).sizes:
            corner = size.max_width, size.max_height
            assert not more.sizes or any(each.takes(*corner) for each in more.sizes)


def test_memory_for_every_size_or_unknown_limits_nothing() -> None:
    every = served_by(None, MANIFEST)
    assert within(None) == every
    assert within(size_room(0, NEEDS, MANIFEST).wanted(1024, 1024)) == every
    assert within(size_room(0, NEEDS, MANIFEST).wanted(1024, 1024) - 1) != every


def test_a_size_that_never_fits_is_refused_with_what_it_takes_and_what_fits(model: Model) -> None:
    served = within(100 * MEGABYTE)
    asked = {"prompt": "a red heart", "width": 1024, "height": 1024}
    with pytest.raises(RequestError) as refusal:
        served.check(model.plan_of(asked))
    [fault] = refusal.value.faults
    largest = served.sizes[0]
    assert fault.detail == (
        "1024x1024 pixels take some 0.70 GB of memory to draw, and drawing may take 0.10 GB on "
        f"this machine; what fits is {', '.join(map(str, served.sizes))}; "
        "ask for fewer pixels, or let drawing take more with --draw-memory-mb"
    )
    taken = {"width": largest.max_width, "height": largest.max_height}
    served.check(model.plan_of({**asked, **taken}))


def test_limits_of_the_memory_go_to_another_process() -> None:
    served = within(100 * MEGABYTE)
    assert Served.from_json(served.to_json()) == served
    assert isinstance(served.room, SizeRoom)
