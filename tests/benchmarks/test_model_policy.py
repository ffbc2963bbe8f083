"""The simulation of a worker that has room for one of two models."""

from benchmarks.model_policy import Scenario, first_come, jobs_of, loaded_first, ours, simulate

PAIR = Scenario("a pair", {"a": 0.2, "b": 2.0}, {"a": 0.8, "b": 0.5}, (0.5, 0.5))


def test_the_products_choice_bounds_waits_and_does_not_spend_its_time_on_loadings() -> None:
    jobs = jobs_of(PAIR, 0.9, seed=7)
    by_order, by_model, chosen = (
        simulate(PAIR, jobs, choice) for choice in (first_come, loaded_first, ours)
    )
    assert chosen["longest wait"] < by_model["longest wait"]
    assert chosen["mean wait"] < by_order["mean wait"] / 5
    assert chosen["share of loadings"] < by_order["share of loadings"] / 2


def test_the_same_seed_gives_the_same_figures() -> None:
    first, again = (simulate(PAIR, jobs_of(PAIR, 0.6, seed=3), ours) for _ in range(2))
    assert first == again
