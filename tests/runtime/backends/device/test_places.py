"""The places of weights in one piece of memory."""

import numpy as np

from runtime.backends.device.places import offsets
from runtime.backends.low_rank import Weights, base_of
from runtime.package.tensors import Tensor
from tests.runtime.backends.device.updates import update

WEIGHTS: Weights = {
    "small": update("F16", 3, 5, {2: "F16"}),
    "finished": Tensor("F32", np.arange(7, dtype=np.float32)),
    "fp32": update("F32", 16, 300, {9: "F16"}),
}


def test_places_do_not_overlap_and_are_aligned() -> None:
    places, size = offsets(WEIGHTS)
    ends = [places[name] + base_of(weight).size_bytes for name, weight in WEIGHTS.items()]
    begins = [*list(places.values())[1:], size]
    assert all(end <= begin for end, begin in zip(ends, begins, strict=True))
    assert all(place % 256 == 0 for place in places.values())


def test_no_weight_takes_no_room() -> None:
    assert offsets({}) == ({}, 0)
