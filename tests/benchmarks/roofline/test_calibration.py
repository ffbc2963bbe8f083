"""The model's fit to the measured table, from a description of the measured graph."""

import pytest

from benchmarks.roofline.calibration import (
    MEASURED,
    MEASURED_LAUNCHES,
    MEASURED_MS,
    STEP,
    fits,
    read,
    written,
)
from benchmarks.roofline.call import Cost
from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.prediction import Prediction, predicted


@pytest.fixture(scope="module")
def step() -> Prediction:
    return predicted([Cost(tuple(read(STEP.read_text())))], GPUS["h200"])


def test_every_row_is_within_15_percent(step: Prediction) -> None:
    wrong = {fit.kind: fit.error for fit in fits(step) if abs(fit.error) > 0.15}
    assert wrong == {}
    assert len(fits(step)) == len(MEASURED)


def test_the_sum_is_within_5_percent(step: Prediction) -> None:
    assert step.ms == pytest.approx(MEASURED_MS, rel=0.05)


def test_launches_are_those_of_the_table(step: Prediction) -> None:
    assert step.launches == pytest.approx(MEASURED_LAUNCHES, rel=0.02)
    # The tail of a step, on latents, has Muls and Adds in fp32 that the table does not count.
    beyond = {"Mul": 20, "Add": 8}
    for fit in fits(step):
        counted = fit.predicted_launches - beyond.get(fit.kind, 0)
        assert counted == pytest.approx(fit.launches, rel=0.06), fit.kind


def test_launches_are_read_as_they_were_written() -> None:
    launches = read(STEP.read_text())
    assert read(written(launches)) == launches
