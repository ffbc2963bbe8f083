"""The model whose call is next."""

from dataclasses import dataclass

from runtime.draw.schedule import BATCH_SHARE
from runtime.worker.turns import Claim, Turns, claim_of


@dataclass
class Picture:
    urgent: bool
    arrived: float


def test_the_picture_that_came_first_has_its_model_called() -> None:
    early = claim_of([Picture(urgent=True, arrived=1.0), Picture(urgent=True, arrived=9.0)])
    late = claim_of([Picture(urgent=True, arrived=2.0)])
    assert Turns().next([late, early]) == 1


def test_interactive_pictures_go_before_earlier_ones_of_batch_priority() -> None:
    batch = claim_of([Picture(urgent=False, arrived=1.0)])
    mixed = claim_of([Picture(urgent=False, arrived=0.0), Picture(urgent=True, arrived=2.0)])
    assert mixed == Claim(urgent=True, arrived=2.0)
    assert Turns().next([batch, mixed]) == 1


def test_a_loop_without_pictures_is_left_before_anything_is_drawn() -> None:
    assert Turns().next([claim_of([Picture(urgent=True, arrived=0.0)]), claim_of([])]) == 1


def test_batch_priority_has_its_share_of_the_time_while_interactive_ones_never_end() -> None:
    turns, spent = Turns(), {True: 0.0, False: 0.0}
    claims = [Claim(urgent=True, arrived=1.0), Claim(urgent=False, arrived=0.0)]
    for _ in range(1000):
        chosen = claims[turns.next(claims)]
        seconds = 0.1 if chosen.urgent else 0.4
        turns.called(chosen, seconds)
        spent[chosen.urgent] += seconds
    share = spent[False] / sum(spent.values())
    assert 0.8 * BATCH_SHARE < share <= 1.1 * BATCH_SHARE
