"""The account of the models that fit on a device together."""

import pytest

from runtime.backends.catalog import Choice
from runtime.plan.model import open_model
from runtime.worker.shelf_room import ModelNeeds, ShelfRoom, model_needs
from tests.places import ENGINES

NEEDS = {
    "a": ModelNeeds(4, 2),
    "b": ModelNeeds(3, 5),
    "c": ModelNeeds(2, 1),
    "d": ModelNeeds(99, 1),
}


def test_weights_add_up_and_of_runs_the_largest_counts() -> None:
    assert ShelfRoom(12, NEEDS).fits(["a", "b"])
    assert not ShelfRoom(11, NEEDS).fits(["a", "b"])
    assert ShelfRoom(14, NEEDS).fits(["a", "b", "c"])


def test_one_alone_is_tried_and_where_nothing_is_known_all_are() -> None:
    assert ShelfRoom(1, NEEDS).fits(["d"])
    assert ShelfRoom(None, NEEDS).fits(["a", "d"])


@pytest.mark.parametrize(
    ("memory", "in_use", "given_up"),
    [
        (14, [], []),
        (13, [], ["a"]),
        (13, ["a"], ["b"]),
        (6, [], ["a", "b"]),
        # No place for it beside what is in use.
        (6, ["a"], None),
    ],
)
def test_the_least_recently_used_goes_first(
    memory: int, in_use: list[str], given_up: list[str] | None
) -> None:
    assert ShelfRoom(memory, NEEDS).given_up("c", ["a", "b"], in_use) == given_up


def test_the_demo_takes_its_weights_in_fp32_and_a_decoding() -> None:
    manifest = open_model(ENGINES, "demo").manifest
    needs = model_needs(Choice("onnxruntime-cpu", None, None, ""), manifest)
    assert 21e6 < needs.weights < 22e6
    assert 11e6 < needs.runs < 12e6
