"""Who shares a call of the step graph."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from runtime.draw.batch import MOST_TURNS, Loaded, choose
from runtime.package.pack import LoraPack, LoraSet, PackRecord, PackSource
from runtime.plan.served import BatchLimits

RECORD = PackRecord("x", "x", "", 1.0, 0.5, PackSource("x", "0"), (), (), {})


@dataclass(frozen=True)
class Waiting:
    """A sample as the policy sees it."""

    name: str
    shape_key: tuple[object, ...] = ("square",)
    next_evaluations: int = 2
    loras: LoraSet = ()


def names(
    waiting: list[Waiting], samples: int = 8, evaluations: int = 16, loaded: Loaded | None = None
) -> list[str]:
    limits = BatchLimits(samples, evaluations)
    return [sample.name for sample in choose(waiting, limits, loaded or Loaded())]


INK: LoraSet = ((LoraPack("1", Path("ink"), RECORD), 1.0),)
OIL: LoraSet = ((LoraPack("2", Path("oil"), RECORD), 1.0),)
FAINT_INK: LoraSet = ((LoraPack("1", Path("ink"), RECORD), 0.5),)


def test_nobody_waits() -> None:
    assert names([]) == []


def test_equal_shapes_share_a_call() -> None:
    assert names([Waiting("a"), Waiting("b", ("wide",)), Waiting("c")]) == ["a", "c"]


def test_the_longest_waiting_sample_chooses_the_shape() -> None:
    assert names([Waiting("b", ("wide",)), Waiting("a"), Waiting("c")]) == ["b"]


def test_limits_on_samples_and_evaluations_hold() -> None:
    three = [Waiting("a"), Waiting("b"), Waiting("c", next_evaluations=1)]
    assert names(three, samples=2) == ["a", "b"]
    assert names(three, evaluations=4) == ["a", "b"]


def test_the_first_is_taken_even_where_it_alone_is_over_the_limit() -> None:
    assert names([Waiting("a", next_evaluations=9)], evaluations=4) == ["a"]


def test_samples_of_one_lora_set_share_a_call() -> None:
    waiting = [Waiting("a", loras=INK), Waiting("b"), Waiting("c", loras=FAINT_INK)]
    waiting.append(Waiting("d", loras=INK))
    assert names(waiting, loaded=Loaded(OIL)) == ["a", "d"]


def test_the_set_that_is_loaded_is_preferred() -> None:
    waiting = [Waiting("a"), Waiting("b", loras=INK), Waiting("c", loras=INK)]
    assert names(waiting, loaded=Loaded(INK, 1)) == ["b", "c"]
    assert names(waiting, loaded=Loaded(INK, MOST_TURNS)) == ["a"]
    assert names([Waiting("b", loras=INK)], loaded=Loaded(INK, MOST_TURNS)) == ["b"]


def test_no_sample_waits_longer_than_its_bound() -> None:
    running = [
        Waiting("a1", loras=INK),
        Waiting("a2", ("wide",), loras=INK),
        Waiting("b", loras=OIL),
        Waiting("c"),
    ]
    loaded = Loaded(INK)
    waited: Counter[str] = Counter()
    longest: Counter[str] = Counter()
    switches = 0
    for _ in range(30 * MOST_TURNS):
        turn = choose(running, BatchLimits(8, 16), loaded)
        switches += turn[0].loras != loaded.loras
        loaded = loaded.after(turn[0].loras)
        for sample in running:
            waited[sample.name] = 0 if sample in turn else waited[sample.name] + 1
            longest[sample.name] = max(longest[sample.name], waited[sample.name])
        running = [sample for sample in running if sample not in turn] + turn
    # Two other sets have their turns, and one turn more where two shapes share a set.
    assert max(longest.values()) <= 2 * MOST_TURNS + 1
    assert switches <= 30


def test_newcomers_of_the_set_that_is_loaded_do_not_hold_up_others() -> None:
    running, loaded, turns = [Waiting("oil", loras=OIL)], Loaded(INK), 0
    while loaded.loras != OIL:
        running.append(Waiting(f"ink{turns}", loras=INK))
        turn = choose(running, BatchLimits(8, 16), loaded)
        running = [sample for sample in running if sample not in turn]
        loaded = loaded.after(turn[0].loras)
        turns += 1
    assert turns == MOST_TURNS + 1
