"""The models whose jobs a worker is given."""

import pytest

from runtime.jobs.affinity import BATCH, LONGEST, SHARE, Waiting, next_models, patience
from runtime.wire.messages import Shelved

SECONDS = {"near": 1.0, "far": 2.0, "slow": 100.0}
SHELF = Shelved(["near"], [], 0, SECONDS)
WAIT = SHARE * 3.0


def waits(model: str, seconds: float = 0.0, *, batch: bool = False) -> Waiting:
    return Waiting(model, not batch, seconds)


@pytest.mark.parametrize(
    ("queue", "held", "expected"),
    [
        ([waits("near")], [], {"near"}),
        ([waits("near"), waits("far", WAIT - 0.1)], ["near"], {"near"}),
        ([waits("near"), waits("far", WAIT)], ["near"], {"far"}),
        # Without another that could be drawn at once nobody waits.
        ([waits("far")], ["near"], {"far"}),
        ([waits("far"), waits("near", batch=True)], [], {"far"}),
        # A job of batch priority lets interactive ones pass for longer.
        ([waits("near"), waits("far", WAIT, batch=True)], [], {"near"}),
        ([waits("near"), waits("far", BATCH * WAIT, batch=True)], [], {"far"}),
        ([waits("near", batch=True), waits("far", WAIT, batch=True)], [], {"far"}),
        # However slow the loading, the wait is bounded; the longest goes first.
        ([waits("near"), waits("slow", LONGEST)], [], {"slow"}),
        ([waits("near"), waits("far", WAIT), waits("slow", LONGEST)], [], {"slow"}),
        # Whoever was never loaded is loaded at once, which tells its time.
        ([waits("near"), waits("new", SHARE * 1.0)], [], {"new"}),
        # A job that waits in the worker for its model is followed by such jobs alone.
        ([waits("near", 99), waits("far")], ["near", "far"], {"far"}),
    ],
)
def test_the_choice(queue: list[Waiting], held: list[str], expected: set[str]) -> None:
    assert set(next_models(queue, SHELF, held, settled=1e9)) == expected


def test_a_model_that_fits_beside_is_as_near_as_one_that_is_loaded() -> None:
    shelf = Shelved(["near"], ["far"], 0, SECONDS)
    queue = [waits("near"), waits("far"), waits("slow")]
    assert set(next_models(queue, shelf, ["far", "near"], settled=1e9)) == {"near", "far"}


def test_no_more_than_a_share_of_the_time_goes_into_switching() -> None:
    """Two models with more jobs than can be drawn, which have all waited for long: time passes by
    pictures of 0.3 s, and by loadings.
    """
    loaded, other, clock, switched, wanted_at = "near", "far", 0.0, 0.0, 0.0
    while clock < 1000.0:
        shelf = Shelved([loaded], [], 0, SECONDS)
        queue = [waits(loaded, 900.0), waits(other, 900.0)]
        if next_models(queue, shelf, [loaded], settled=clock - wanted_at) == {other}:
            assert clock - wanted_at < patience(queue[1], shelf, urgent_near=True) + 0.31
            clock, switched = clock + SECONDS[other], switched + SECONDS[other]
            loaded, other, wanted_at = other, loaded, clock
        clock += 0.3
    assert 0.0 < switched / clock < 1 / SHARE
