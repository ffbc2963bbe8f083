"""A trial of the backends of this machine's CPU."""

from pathlib import Path

import numpy as np
import pytest

from runtime.backends.catalog import choose
from runtime.backends.cpu_trials import Way
from runtime.backends.devices import Devices
from runtime.backends.openvino.backend import OpenVinoCpu
from runtime.backends.protocol import Engine
from runtime.backends.rows import CPU, row_of
from runtime.draw import cpu_trial
from runtime.draw.cpu_trial import UNUSABLE, relative_error, try_cpu
from runtime.errors import BackendError
from runtime.plan.model import Model, open_model
from tests.places import ENGINES

NOWHERE = Devices((), "no GPU")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("CALOTYPE_CACHE", str(tmp_path))
    monkeypatch.setattr(cpu_trial, "SECONDS", 0.0)
    return open_model(ENGINES, "demo")


def test_a_picture_is_its_steps_and_its_decoder(model: Model) -> None:
    way = Way(row_of(CPU))
    trial = cpu_trial.cpu_trial(model, [way])
    outcome = trial.outcomes[str(way)]
    assert outcome.error == 0.0  # the reference is drawn by the same backend
    assert outcome.seconds > 0
    assert trial.conditions["package"] == model.package.digest


def test_every_network_is_recorded_with_what_it_answered(model: Model) -> None:
    calls = cpu_trial.recorded(model)
    steps = len(calls["denoiser"])
    assert steps == cpu_trial.STEPS
    assert len(calls["vae_decoder"]) == 1
    assert all(np.isfinite(call.outputs["next_latents"]).all() for call in calls["denoiser"])


def test_the_error_is_relative_and_a_nan_is_none_that_passes() -> None:
    expected = np.array([3.0, -4.0], np.float32)
    assert relative_error(expected, expected) == 0.0
    assert relative_error(expected, expected * np.float32(1.5)) == pytest.approx(0.5)
    assert relative_error(np.ones(10_000), np.ones(10_000) + np.eye(1, 10_000)[0]) == 0.5
    assert relative_error(expected, np.array([3.0, np.nan])) == UNUSABLE
    assert relative_error(np.zeros(2), expected) == UNUSABLE


@pytest.mark.usefixtures("openvino")
def test_a_trial_is_made_once_and_decides(model: Model) -> None:
    told: list[str] = []
    try_cpu(model, "auto", NOWHERE, "fp32", told.append)
    assert told[0].endswith("openvino-cpu in fp32, onnxruntime-cpu in fp32")
    assert len(told) == 3
    choice = choose(model.package, "auto", NOWHERE)
    assert "the usual picture takes" in choice.note
    try_cpu(model, "auto", NOWHERE, "fp32", told.append)
    assert len(told) == 3


@pytest.mark.usefixtures("openvino")
def test_a_backend_that_cannot_draw_the_package_is_passed_over(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: OpenVinoCpu, role: str) -> Engine:
        raise BackendError(f"{role}: no such operator")

    monkeypatch.setattr(OpenVinoCpu, "open", refuse)
    try_cpu(model, "auto", NOWHERE, "fp32", lambda _: None)
    choice = choose(model.package, "auto", NOWHERE)
    assert choice.backend == "onnxruntime-cpu"
    assert "passed over openvino-cpu in fp32: denoiser: no such operator" in choice.note


def test_nothing_is_tried_for_a_backend_asked_for_by_name(model: Model) -> None:
    try_cpu(model, "onnxruntime-cpu", NOWHERE, "fp32", pytest.fail)
