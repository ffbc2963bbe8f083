"""The committed demo model draws what it is asked for: a cheap part of its evaluation.

The thresholds stand a little below what the model card reports. All pictures have fixed seeds.
"""

import pytest

from examples.demo_model.drawing import draw_all, open_generator
from examples.demo_model.evaluate import score
from examples.demo_model.prompts import evaluation_tasks
from tests.places import ENGINES

PICTURES = 72


@pytest.fixture(scope="module")
def scored() -> tuple[dict[str, float], dict[str, float]]:
    """Shares right over all groups, and the same with prompts rotated against pictures."""
    tasks = evaluation_tasks()[:PICTURES]
    generator = open_generator(ENGINES, "demo")
    pictures = draw_all(generator, [{"prompt": t.prompt, "seed": t.seed} for t in tasks])
    own, other = score(tasks, pictures), score(tasks, pictures, rotated=True)
    return tuple({k: row["right"] for k, row in table["all"].items()} for table in (own, other))


@pytest.mark.parametrize(
    ("what", "least"), [("background", 0.97), ("things", 0.8), ("binding", 0.7), ("place", 0.7)]
)
def test_pictures_follow_their_prompts(
    scored: tuple[dict[str, float], dict[str, float]], what: str, least: float
) -> None:
    assert scored[0][what] >= least


@pytest.mark.parametrize(("what", "most"), [("background", 0.3), ("things", 0.2), ("binding", 0.1)])
def test_they_do_not_follow_the_prompts_of_others(
    scored: tuple[dict[str, float], dict[str, float]], what: str, most: float
) -> None:
    assert scored[1][what] <= most
