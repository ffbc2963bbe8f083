"""The registry of samplers, and what holds for the tables of all of them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import PackageError, RequestError
from runtime.plan.sampling.noise import Draws
from runtime.plan.sampling.samplers import SAMPLERS, step_table
from runtime.plan.sampling.schedules import SchedulerConfig
from runtime.plan.sampling.table import StepTable
from tests.runtime.plan.sampling.trajectories import (
    CONSISTENCY,
    SDXL,
    SEED,
    SHAPE,
    denoiser,
    follow,
)

PAIRS = [(name, schedule) for name in SAMPLERS for schedule in SAMPLERS[name].schedules]
STOCHASTIC = ("euler_a", "dpm++_2m_sde", "dpm++_sde", *CONSISTENCY)
DISTILLED_STEPS = 50
"""The most steps of LCM and TCD in their own schedule."""


def table(sampler: str, schedule: str, steps: int, **options: object) -> StepTable:
    config = SchedulerConfig.from_mapping({**SDXL, **options})
    return step_table(sampler, schedule, steps, config)


def test_the_samplers_that_the_api_offers() -> None:
    karras, plain = ("default", "karras", "sgm_uniform"), ("default", "sgm_uniform")
    assert {name: sampler.schedules for name, sampler in SAMPLERS.items()} == {
        "euler": karras,
        "euler_a": plain,
        "ddim": plain,
        "heun": karras,
        "lms": karras,
        "dpm++_2m": karras,
        "dpm++_2m_sde": karras,
        "dpm++_sde": karras,
        "lcm": plain,
        "tcd": plain,
    }
    with pytest.raises(TypeError):
        SAMPLERS["mine"] = SAMPLERS["euler"]  # type: ignore[index]


REFUSED = [
    ("euler_b", "default", 20, "/sampler", "'euler_b' is no sampler; expected 'euler' or"),
    ("", "default", 20, "/sampler", "'' is no sampler"),
    (
        *("ddim", "karras", 20, "/schedule"),
        "sampler 'ddim' has no schedule 'karras'; expected 'default'",
    ),
    (
        *("euler", "exponential", 20, "/schedule"),
        "sampler 'euler' has no schedule 'exponential'; expected 'default' or 'karras'",
    ),
    (
        *("lcm", "default", 51, "/steps"),
        "51 steps; expected 1 to 50, with which 'lcm' was distilled; schedule 'sgm_uniform' takes",
    ),
    ("tcd", "karras", 4, "/schedule", "sampler 'tcd' has no schedule 'karras'"),
    ("tcd", "sgm_uniform", 1001, "/steps", "1001 steps; expected 1 to 1000"),
    ("euler", "default", 0, "/steps", "0 steps; expected 1 to 1000"),
    ("euler", "default", -3, "/steps", "-3 steps; expected 1 to 1000"),
    ("ddim", "default", 1001, "/steps", "1001 steps; expected 1 to 1000"),
]


@pytest.mark.parametrize(("sampler", "schedule", "steps", "pointer", "detail"), REFUSED)
def test_wrong_requests(sampler: str, schedule: str, steps: int, pointer: str, detail: str) -> None:
    with pytest.raises(RequestError) as refusal:
        table(sampler, schedule, steps)
    (fault,) = refusal.value.faults
    assert fault.pointer == pointer
    assert fault.detail.startswith(detail)


@pytest.mark.parametrize(
    "betas",
    [
        {"beta_start": 0.9, "beta_end": 0.99},
        {"trained_betas": [1e-12] * 1000},
    ],
    ids=str,
)
def test_betas_that_make_no_noise_schedule(betas: dict[str, Any]) -> None:
    with pytest.raises(PackageError, match="check beta_start, beta_end and trained_betas"):
        table("euler", "default", 5, **betas)


OPTIONS = st.fixed_dictionaries(
    {
        "prediction_type": st.sampled_from(["epsilon", "v_prediction"]),
        "timestep_spacing": st.sampled_from(["linspace", "leading", "trailing"]),
        "steps_offset": st.integers(0, 2),
        "rescale_betas_zero_snr": st.booleans(),
        "beta_schedule": st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"]),
        "final_sigmas_type": st.sampled_from(["zero", "sigma_min"]),
        "set_alpha_to_one": st.booleans(),
        "solver_order": st.integers(1, 3),
        "solver_type": st.sampled_from(["midpoint", "heun"]),
        "lower_order_final": st.booleans(),
        "euler_at_final": st.booleans(),
    }
)


@given(pair=st.sampled_from(PAIRS), steps=st.integers(1, 110), options=OPTIONS)
def test_every_table_is_sound(
    pair: tuple[str, str], steps: int, options: Mapping[str, Any]
) -> None:
    """A table checks its own shapes, and that it is finite."""
    sampler, schedule = pair
    if sampler in CONSISTENCY and schedule == "default":
        steps = min(steps, DISTILLED_STEPS)
    made = table(sampler, schedule, steps, **options)
    assert made.steps == steps
    calls = SAMPLERS[sampler].evaluations_per_step
    assert made.rows == calls * (steps - 1) + 1
    counts = np.bincount(made.step)
    assert counts.tolist() == [calls] * (steps - 1) + [1]
    assert (np.diff(made.timesteps) <= 0).all()
    assert made.timesteps.min() >= 0
    assert_noise_is_normalised(sampler, made)


def assert_noise_is_normalised(sampler: str, made: StepTable) -> None:
    strength = made.coefficients[:, -1]
    assert (strength >= 0).all()
    power = np.square(made.draws.astype(float)).sum(axis=1)
    np.testing.assert_allclose(power, strength > 0, atol=1e-6)
    if sampler in STOCHASTIC:
        # A single step ends on the picture, unless its last sigma is not 0.
        assert strength.any() or made.steps == 1
    else:
        assert made.draws.shape == (made.rows, 0)
        assert not strength.any()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_the_most_steps_that_a_model_has(
    sampler: str, schedule: str, spacing: str, prediction: str
) -> None:
    """One for each training timestep. Some schedules come twice by one sigma."""
    most = DISTILLED_STEPS if sampler in CONSISTENCY and schedule == "default" else 1000
    for zero_snr in (False, True):
        made = table(
            sampler,
            schedule,
            most,
            prediction_type=prediction,
            timestep_spacing=spacing,
            rescale_betas_zero_snr=zero_snr,
        )
        assert made.steps == most


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_few_training_timesteps(sampler: str) -> None:
    betas = np.linspace(0.01, 0.2, 7).tolist()
    for steps in range(1, 8):
        made = table(sampler, "default", steps, num_train_timesteps=7, trained_betas=betas)
        assert made.steps == steps
    with pytest.raises(RequestError, match="expected 1 to 7"):
        table(sampler, "default", 8, num_train_timesteps=7, trained_betas=betas)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_one_step_ends_on_the_predicted_picture(
    sampler: str, schedule: str, prediction: str
) -> None:
    made = table(sampler, schedule, 1, prediction_type=prediction, timestep_spacing="trailing")
    latents = Draws(SEED, SHAPE, made.draws).initial() * float(made.initial_scale)
    c_in, px, po = made.coefficients[0, :3].astype(float)
    output = denoiser(c_in * latents, float(made.timesteps[0]))
    assert made.timesteps[0] == 999
    ended = follow(made, dtype=np.float64)
    picture = px * latents + po * output
    if sampler == "tcd":
        # It ends at timestep 0, with as much noise as the model has there.
        share = 1 - SDXL["beta_start"]
        alpha = px**-2 if prediction == "epsilon" else px**2
        noise = (latents - math.sqrt(alpha) * picture) / math.sqrt(1 - alpha)
        picture = math.sqrt(share) * picture + math.sqrt(1 - share) * noise
    np.testing.assert_allclose(ended, picture, atol=1e-5 * np.abs(ended).max())


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("sampler", ["ddim", *CONSISTENCY])
def test_a_terminal_snr_of_zero_is_read_in_epsilon_prediction(sampler: str, spacing: str) -> None:
    """diffusers divides by 0 here; v prediction needs no such help."""
    options = {"timestep_spacing": spacing, "rescale_betas_zero_snr": True}
    epsilon = table(sampler, "default", 5, prediction_type="epsilon", **options)
    assert epsilon.timesteps[0] == 999
    np.testing.assert_allclose(epsilon.coefficients[0, 1], 2.0**12)
    velocity = table(sampler, "default", 5, prediction_type="v_prediction", **options)
    assert velocity.coefficients[0, 1:3].tolist() == [0, -1]


@pytest.mark.parametrize("sampler", ["dpm++_2m", "dpm++_2m_sde"])
def test_a_karras_schedule_that_diffusers_runs_past_its_end(sampler: str) -> None:
    """At an SNR of 0 its first two timesteps round to the same, and it starts at the second."""
    options = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    made = table(sampler, "karras", 100, **options)
    assert made.timesteps[:2].tolist() == [999, 999]
    assert made.rows == 100
    sigmas = made.coefficients[:, 2] / -made.coefficients[:, 1]
    assert (np.diff(sigmas) < 0).all()


def test_lambda_min_clipped_cuts_trailing_steps_short() -> None:
    options = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}
    assert table("dpm++_2m", "default", 30, **options).steps == 30
    cut = table("dpm++_2m", "default", 30, lambda_min_clipped=-2.0, **options)
    assert cut.steps < 30
    assert cut.timesteps[0] < 990


def test_classes_without_zero_snr_pass_it_over() -> None:
    for sampler in ("heun", "lms", "dpm++_sde"):
        plain, asked = (
            table(sampler, "default", 5, rescale_betas_zero_snr=asked) for asked in (False, True)
        )
        np.testing.assert_array_equal(plain.coefficients, asked.coefficients)


def test_noise_of_a_step_that_evaluates_twice() -> None:
    """z1 to the middle; on to the end, what is left of z1 and all of z2."""
    made = table("dpm++_sde", "default", 3)
    assert made.draws.shape == (5, 4)
    needed = made.draws != 0
    assert needed[:, 0].tolist() == [True, True, False, False, False]
    assert needed[:, 1].tolist() == [False, True, False, False, False]
    assert needed[:, 2].tolist() == [False, False, True, True, False]
    assert needed[:, 3].tolist() == [False, False, False, True, False]
