"""The model's fit to the measured rows, from descriptions of the measured steps."""

import pytest

from benchmarks.roofline.calibration import (
    FITTED_KINDS,
    GPU,
    MEASURED,
    MEASURED_LAUNCHES,
    MEASURED_MS,
    beside_kernels,
    fits,
    measurements,
    profiles,
    without,
)
from benchmarks.roofline.described import BEFORE, DECODER, MODELS, STEPS, described, profiled, read
from benchmarks.roofline.described import written as written_launches
from benchmarks.roofline.fit import figures, fitted
from benchmarks.roofline.prediction import Prediction, predicted


@pytest.fixture(scope="module")
def before() -> Prediction:
    return predicted(described(BEFORE), GPU)


def test_every_row_before_the_fusions_is_within_15_percent(before: Prediction) -> None:
    wrong = {fit.kind: fit.error for fit in fits(before) if abs(fit.error) > 0.15}
    assert wrong == {}
    assert len(fits(before)) == len(MEASURED)


def test_the_sum_before_the_fusions_is_within_5_percent(before: Prediction) -> None:
    assert before.ms == pytest.approx(MEASURED_MS, rel=0.05)


def test_launches_are_those_of_the_table(before: Prediction) -> None:
    assert before.launches == pytest.approx(MEASURED_LAUNCHES, rel=0.02)
    # The tail of a step, on latents, has Muls and Adds in fp32 that the table does not count.
    beyond = {"Mul": 20, "Add": 8, "Memset": 29}
    for fit in fits(before):
        counted = fit.predicted_launches - beyond.get(fit.kind, 0)
        assert counted == pytest.approx(fit.launches, rel=0.06), fit.kind


@pytest.mark.parametrize("model", MODELS)
def test_a_profiled_step_is_within_2_percent_and_its_large_rows_within_10(model: str) -> None:
    found, step = profiles()[model], predicted(profiled(model), GPU)
    assert step.ms == pytest.approx(found.kernels_ms, rel=0.02)
    large = [fit for fit in fits(step, found.rows) if fit.ms > 1]
    assert {fit.kind: fit.error for fit in large if abs(fit.error) > 0.1} == {}
    assert sum(fit.ms for fit in large) > 0.96 * found.kernels_ms


@pytest.mark.parametrize("model", MODELS)
def test_a_step_and_a_decoder_by_the_clock_are_within_2_percent(model: str) -> None:
    found = profiles()[model]
    for name, ms in ((model, found.step_ms), (DECODER, found.decode_ms)):
        assert predicted(described(name), GPU).clock_ms == pytest.approx(ms, rel=0.02)


def test_the_figures_are_those_of_least_squares() -> None:
    found = beside_kernels(fitted(GPU, measurements()))
    for name, value in figures(found).items():
        assert figures(GPU)[name] == pytest.approx(value, rel=0.01), name
    assert GPU.gap_in_graph == pytest.approx(found.gap_in_graph, rel=0.02)
    assert GPU.sustained == pytest.approx(found.sustained, rel=0.02)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_predicted_within_5_percent_by_the_others(model: str) -> None:
    gpu, found = without(model), profiles()[model]
    assert predicted(profiled(model), gpu).ms == pytest.approx(found.kernels_ms, rel=0.05)
    assert predicted(described(model), gpu).clock_ms == pytest.approx(found.step_ms, rel=0.05)


def test_every_fitted_kind_was_measured() -> None:
    assert {kind for each in measurements() for kind in each.rows} == {*FITTED_KINDS}


@pytest.mark.parametrize("path", sorted(STEPS.iterdir()), ids=lambda path: path.stem)
def test_launches_are_read_as_they_were_written(path: object) -> None:
    launches = read(STEPS.joinpath(str(path)).read_text())
    assert read(written_launches(launches)) == launches
