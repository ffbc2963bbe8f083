"""Who shares a call of the step graph."""

from dataclasses import dataclass

from runtime.batch import BatchLimits, choose


@dataclass(frozen=True)
class Waiting:
    """A sample as the policy sees it."""

    name: str
    shape_key: tuple[object, ...] = ("square",)
    next_evaluations: int = 2


def names(waiting: list[Waiting], samples: int = 8, evaluations: int = 16) -> list[str]:
    return [sample.name for sample in choose(waiting, BatchLimits(samples, evaluations))]


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
