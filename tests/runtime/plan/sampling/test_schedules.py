"""Noise schedules: training betas, spacings, Karras sigmas."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.plan.sampling.samplers import SAMPLERS
from runtime.plan.sampling.scheduler_config import SchedulerConfig, SchedulerOptions
from runtime.plan.sampling.schedules import (
    alphas_cumprod,
    initial_scale,
    karras_sigmas,
    nearest_timesteps,
    sigma_schedule,
    spaced_timesteps,
    training_sigmas,
)
from tests.runtime.plan.sampling.trajectories import SDXL, scheduler_of

BETAS = [
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": np.linspace(0.001, 0.02, 1000).tolist()},
]


def resolved(sampler: str, raw: Mapping[str, Any]) -> SchedulerOptions:
    return SchedulerConfig.from_mapping(raw).for_class(SAMPLERS[sampler].scheduler)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("betas", BETAS, ids=lambda betas: next(iter(betas)))
def test_training_tables(betas: dict[str, Any], zero_snr: bool) -> None:
    raw = {**SDXL, **betas, "rescale_betas_zero_snr": zero_snr}
    # The last share but one is the difference of two that agree in three digits.
    tolerance = 1e-4 if zero_snr else 1e-6
    theirs = scheduler_of("ddim", raw).alphas_cumprod.numpy()
    options = resolved("ddim", raw)
    ours = alphas_cumprod(options)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    if zero_snr:
        assert ours[-1] == theirs[-1] == 0
        assert training_sigmas(options)[-1] == pytest.approx(4096)
    sigmas = scheduler_of("euler", raw).sigmas.numpy()[-2::-1]
    np.testing.assert_allclose(training_sigmas(options), sigmas, rtol=tolerance)


@given(
    spacing=st.sampled_from(["linspace", "leading", "trailing"]),
    steps=st.integers(1, 1000),
    offset=st.integers(0, 1),
)
def test_spacings(spacing: Any, steps: int, offset: int) -> None:
    options = SchedulerOptions(timestep_spacing=spacing, steps_offset=offset)
    timesteps = spaced_timesteps(options, steps)
    assert timesteps.shape == (steps,)
    assert (np.diff(timesteps) < 0).all()
    assert timesteps[-1] >= 0
    if spacing == "linspace":
        assert timesteps[-1] == 0
        assert timesteps[0] == (999 if steps > 1 else 0)
    elif spacing == "leading":
        assert timesteps[-1] == offset
        assert np.unique(np.diff(timesteps)).size <= 1
    else:
        assert timesteps[0] == 999


@given(
    steps=st.integers(1, 300),
    low=st.floats(0.01, 1),
    ratio=st.floats(1.1, 1e5),
)
def test_karras_sigmas(steps: int, low: float, ratio: float) -> None:
    sigmas = karras_sigmas(low * ratio, low, steps)
    assert sigmas.shape == (steps,)
    assert sigmas[0] == pytest.approx(low * ratio)
    assert (np.diff(sigmas) < 0).all()
    if steps > 1:
        assert sigmas[-1] == pytest.approx(low)
        # Evenly spaced in their seventh roots.
        np.testing.assert_allclose(np.diff(sigmas ** (1 / 7), n=2), 0, atol=1e-9)


def test_nearest_timesteps() -> None:
    training = training_sigmas(resolved("euler", SDXL))
    known = nearest_timesteps(training.astype(np.float64), training)
    np.testing.assert_allclose(known, np.arange(1000), atol=1e-4)
    between = nearest_timesteps(np.sqrt(training[[400]] * training[[401]]).astype(float), training)
    np.testing.assert_allclose(between, 400.5, atol=1e-3)
    beyond = np.array([0.0, 1e-3, 1e3])
    assert nearest_timesteps(beyond, training).tolist() == [0, 0, 999]


@given(
    sampler=st.sampled_from(["euler", "heun"]),
    steps=st.integers(1, 120),
    raw=st.fixed_dictionaries(
        {
            "timestep_spacing": st.sampled_from(["linspace", "leading", "trailing"]),
            "use_karras_sigmas": st.booleans(),
            "final_sigmas_type": st.sampled_from(["zero", "sigma_min"]),
            "rescale_betas_zero_snr": st.booleans(),
        }
    ),
)
def test_sigmas_fall_from_the_noise_to_the_end(
    sampler: str, steps: int, raw: dict[str, Any]
) -> None:
    options = resolved(sampler, {**SDXL, **raw})
    timesteps, sigmas = sigma_schedule(options, steps)
    assert timesteps.shape == (steps,)
    assert sigmas.shape == (steps + 1,)
    # A single Karras sigma, raised to powers and back, may be a rounding error below the last one.
    assert (np.diff(sigmas) <= 1e-15).all()
    training = training_sigmas(options)
    lowest = training[0] if options.final_sigmas_type == "sigma_min" else 0
    assert sigmas[-1] == lowest
    assert sigmas[0] <= training[-1] * (1 + 1e-9)
    scale = initial_scale(options, sigmas)
    leading = options.timestep_spacing == "leading"
    expected = (sigmas[0] ** 2 + 1) ** 0.5 if leading else sigmas[0]
    assert scale == pytest.approx(expected)


def test_a_file_may_bound_karras_sigmas() -> None:
    raw = {**SDXL, "use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0}
    for sampler, bounded in (("euler", True), ("heun", True), ("lms", False), ("dpm++_sde", False)):
        sigmas = sigma_schedule(resolved(sampler, raw), 8).sigmas
        assert (sigmas[[0, -2]].round(6).tolist() == [10.0, 0.1]) is bounded
