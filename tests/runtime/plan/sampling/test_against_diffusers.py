"""Every sampler against the scheduler class of diffusers that it must equal, same noise and all."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from runtime.plan.sampling.samplers import SAMPLERS, step_table
from runtime.plan.sampling.schedules import SchedulerConfig
from tests.runtime.plan.sampling.trajectories import (
    CLASSES,
    CONSISTENCY,
    SDXL,
    difference,
    follow,
    run_scheduler,
    scheduler_of,
)

# Both sides work in float32, and a step multiplies what the last bits of its latents leave open;
# the worst is Heun from sigma 14.6 to 0.03 at once. diffusers integrates for LMS in float32, too.
TOLERANCE = 3e-5

# At 4096, the sigma that stands for an SNR of 0, diffusers' float32 sums lose digits, which v
# prediction does not win back in few steps; test_formulas.py holds our table to float64 there.
ZERO_SNR_TOLERANCE = 1e-3

STEPS = (1, 2, 5, 20, 100)
PAIRS = [(name, schedule) for name in SAMPLERS for schedule in SAMPLERS[name].schedules]


def error(sampler: str, schedule: str, steps: int, config: Mapping[str, Any]) -> float:
    table = step_table(sampler, schedule, steps, SchedulerConfig.from_mapping(config))
    scheduler = scheduler_of(sampler, config, schedule)
    theirs = run_scheduler(scheduler, steps)
    assert np.isfinite(theirs).all(), "diffusers itself fails here: not a case to compare"
    timesteps = scheduler.timesteps.double().numpy()
    assert table.rows == len(timesteps)
    np.testing.assert_allclose(table.timesteps, timesteps, rtol=0, atol=2e-4)
    assert table.initial_scale == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-6)
    return difference(follow(table), theirs)


def cases(sampler: str) -> Iterator[dict[str, Any]]:
    zero_snr = (False, True)
    if "rescale_betas_zero_snr" in SAMPLERS[sampler].scheduler.lacks:
        zero_snr = (False,)
    for prediction, rescale in product(("epsilon", "v_prediction"), zero_snr):
        # At a terminal SNR of 0, these divide epsilon by 0: see test_samplers.py.
        divides = sampler in ("ddim", *CONSISTENCY)
        if (divides, prediction, rescale) != (True, "epsilon", True):
            yield {"prediction_type": prediction, "rescale_betas_zero_snr": rescale}


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_the_latents_are_those_of_diffusers(sampler: str, schedule: str, spacing: str) -> None:
    for case, steps in product(cases(sampler), STEPS):
        config = {**SDXL, **case, "timestep_spacing": spacing}
        if sampler in CONSISTENCY and schedule == "default" and steps > 50:
            continue  # more than LCM and TCD are distilled with
        # diffusers integrates 400 polynomials numerically for 100 steps of LMS, in seconds.
        if sampler == "lms" and steps == 100 and (schedule, spacing) != ("default", "leading"):
            continue
        coarse = case["rescale_betas_zero_snr"] and sampler in ("euler", "euler_a") and steps <= 5
        found = error(sampler, schedule, steps, config)
        assert found < (ZERO_SNR_TOLERANCE if coarse else TOLERANCE), (case, steps)


@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_other_betas(sampler: str, schedule: str, beta_schedule: str) -> None:
    config = {**SDXL, "beta_schedule": beta_schedule}
    for steps in (1, 7):
        assert error(sampler, schedule, steps, config) < TOLERANCE


@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_each_class_keeps_its_own_defaults(sampler: str, schedule: str) -> None:
    assert error(sampler, schedule, 6, {"clip_sample": False}) < TOLERANCE


@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_options_of_a_file_reach_the_classes_that_take_them(sampler: str, schedule: str) -> None:
    options = {
        "trained_betas": np.linspace(0.002, 0.03, 400).tolist(),
        "num_train_timesteps": 400,
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "use_karras_sigmas": True,
        "sigma_min": 0.1,
        "sigma_max": 12.0,
        "final_sigmas_type": "sigma_min",
        "set_alpha_to_one": False,
        "clip_sample": False,
    }
    assert error(sampler, schedule, 6, options) < TOLERANCE


@pytest.mark.parametrize("schedule", ["default", "karras"])
@pytest.mark.parametrize("sampler", ["dpm++_2m", "dpm++_2m_sde"])
@pytest.mark.parametrize("solver", product((1, 2, 3), ("midpoint", "heun", "bh2")))
def test_multistep_orders_and_types(sampler: str, schedule: str, solver: tuple[int, str]) -> None:
    order, kind = solver
    for lower, euler, final, steps in product(
        (True, False), (True, False), ("zero", "sigma_min"), (3, 16)
    ):
        if schedule == "karras" and final == "sigma_min":
            continue  # the last step goes nowhere, and diffusers divides by its length
        config = {
            **SDXL,
            "solver_order": order,
            "solver_type": kind,
            "lower_order_final": lower,
            "euler_at_final": euler,
            "final_sigmas_type": final,
        }
        assert error(sampler, schedule, steps, config) < TOLERANCE


@pytest.mark.parametrize("sampler", ["dpm++_2m", "dpm++_2m_sde"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_lambda_min_clipped(sampler: str, spacing: str) -> None:
    config = {
        **SDXL,
        "beta_schedule": "squaredcos_cap_v2",
        "lambda_min_clipped": -5.1,
        "timestep_spacing": spacing,
    }
    for steps in (1, 5, 30):
        assert error(sampler, "default", steps, config) < TOLERANCE


@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_multistep_chooses_the_same_integer_timesteps(beta_schedule: str, zero_snr: bool) -> None:
    config = {**SDXL, "beta_schedule": beta_schedule, "rescale_betas_zero_snr": zero_snr}
    scheduler = scheduler_of("dpm++_2m", config, "karras")
    for steps in range(1, 101):
        scheduler.set_timesteps(steps)
        table = step_table("dpm++_2m", "karras", steps, SchedulerConfig.from_mapping(config))
        np.testing.assert_array_equal(table.timesteps, scheduler.timesteps.numpy())


@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpm++_2m", "dpm++_sde"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_timesteps_for_every_number_of_steps(sampler: str, spacing: str) -> None:
    config = {**SDXL, "timestep_spacing": spacing}
    scheduler = scheduler_of(sampler, config)
    for steps in range(1, 101):
        scheduler.set_timesteps(steps)
        theirs = scheduler.timesteps.double().numpy()
        table = step_table(sampler, "default", steps, SchedulerConfig.from_mapping(config))
        if (spacing, steps) == ("trailing", 61):
            # An arange of 62 where 61 are meant: see the next test.
            theirs = theirs[: table.rows]
        np.testing.assert_allclose(table.timesteps, theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize("sampler", CLASSES)
def test_no_step_at_timestep_minus_one(sampler: str) -> None:
    """diffusers has one, of which DDIM makes pure noise: its alphas end at the last, not at -1."""
    config = {**SDXL, "timestep_spacing": "trailing"}
    scheduler = scheduler_of(sampler, config, "sgm_uniform")
    scheduler.set_timesteps(61)
    assert scheduler.timesteps[-1] == -1
    table = step_table(sampler, "sgm_uniform", 61, SchedulerConfig.from_mapping(config))
    assert table.steps == 61
    assert table.timesteps.min() >= 0


@pytest.mark.parametrize("sampler", CONSISTENCY)
def test_timesteps_of_distilled_models(sampler: str) -> None:
    for original in (50, 64, 1000):
        config = {**SDXL, "original_inference_steps": original}
        scheduler = scheduler_of(sampler, config)
        for steps in range(1, min(original, 100) + 1):
            scheduler.set_timesteps(steps)
            table = step_table(sampler, "default", steps, SchedulerConfig.from_mapping(config))
            np.testing.assert_array_equal(table.timesteps, scheduler.timesteps.numpy())


@pytest.mark.parametrize("sampler", CONSISTENCY)
def test_options_of_distilled_models(sampler: str) -> None:
    """Files of LCM and of TCD give them; a small scaling makes LCM keep some of its input."""
    config = {**SDXL, "original_inference_steps": 100, "timestep_scaling": 0.01}
    for steps in (1, 4, 60):
        assert error(sampler, "default", steps, config) < TOLERANCE


def test_tcd_denoises_to_the_same_timesteps() -> None:
    """Every timestep is one that TCD may go past: its share is rounded by torch."""
    for steps in (999, 1000):
        assert error("tcd", "sgm_uniform", steps, SDXL) < TOLERANCE


def test_the_brownian_tree_of_diffusers_has_the_law_of_our_draws() -> None:
    """Both its time, which is sigma itself, and the scale that it divides by."""
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    start, middle, end = 9.0, 3.0, 1.0
    tree = BrownianTreeNoiseSampler(torch.zeros(1, 200_000), 0.03, 14.6, seed=5)
    first, second, rest = (tree(*pair) for pair in ((start, middle), (start, end), (middle, end)))
    for noise in (first, second, rest):
        assert noise.var().item() == pytest.approx(1, abs=0.02)
    shares = ((start - middle) / (start - end)) ** 0.5, ((middle - end) / (start - end)) ** 0.5
    torch.testing.assert_close(second, shares[0] * first + shares[1] * rest)
    assert (first * rest).mean().item() == pytest.approx(0, abs=0.02)


def test_a_model_that_comes_with_karras_sigmas_has_them_by_default() -> None:
    config = {**SDXL, "use_karras_sigmas": True}
    table = step_table("euler", "default", 5, SchedulerConfig.from_mapping(config))
    asked = step_table("euler", "karras", 5, SchedulerConfig.from_mapping(SDXL))
    np.testing.assert_array_equal(table.timesteps, asked.timesteps)
    assert error("euler", "default", 5, config) < TOLERANCE


def test_from_config_of_a_loaded_scheduler_is_what_the_file_gives() -> None:
    """Defaults that a class has filled in do not travel to another one."""
    loaded = diffusers.PNDMScheduler.from_config({**SDXL, "skip_prk_steps": True})
    assert loaded.config["set_alpha_to_one"] is False
    ddim = diffusers.DDIMScheduler.from_config(loaded.config)
    options = SchedulerConfig.from_mapping(loaded.config).for_class(SAMPLERS["ddim"].scheduler)
    assert options.set_alpha_to_one is ddim.config.set_alpha_to_one is True
