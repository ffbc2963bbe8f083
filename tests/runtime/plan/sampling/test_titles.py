"""A schedule's name means the same schedule in the web UI."""

from typing import Any

import numpy as np
import pytest

from runtime.plan.sampling.samplers import SAMPLERS, step_table
from runtime.plan.sampling.scheduler_config import SchedulerConfig
from runtime.plan.sampling.schedules import training_sigmas
from runtime.plan.sampling.solvers.euler import EULER
from runtime.plan.sampling.titles import SAMPLER_TITLES, schedule_settings
from tests.runtime.draw.recipe_readers import web_ui_timesteps

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TITLES = ("Uniform", "SGM Uniform", "DDIM", "Karras", "Exponential")

FILES: dict[str, dict[str, Any]] = {
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "karras": {"timestep_spacing": "leading", "steps_offset": 1, "use_karras_sigmas": True},
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm++_2m", "dpm++_2m_sde", "dpm++_sde"])
@pytest.mark.parametrize("schedule", ["default", "karras"])
@pytest.mark.parametrize("steps", [10, 20, 25, 50])
def test_no_other_schedule_of_the_web_ui_is_nearer(
    file: str, sampler: str, schedule: str, steps: int
) -> None:
    config = SchedulerConfig.from_mapping({**BETAS, **FILES[file]})
    table = step_table(sampler, schedule, steps, config)
    ours = table.timesteps[np.unique(table.step, return_index=True)[1]]
    sigmas = training_sigmas(config.for_class(EULER)).astype(np.float64)
    settings = schedule_settings(sampler, schedule, steps, config)
    ends = tuple(float(settings.get(f"Schedule {end} sigma", 0)) for end in ("min", "max"))
    distances = {
        title: float(np.abs(web_ui_timesteps(title, steps, sigmas, *ends) - ours).max())
        for title in TITLES
    }
    assert min(distances, key=distances.__getitem__) == settings["Schedule type"], distances
    # The multistep solver of diffusers spaces one timestep more, and leaves the lowest out.
    same = "Karras" in settings.values() or not sampler.startswith("dpm++_2m")
    assert not same or min(distances.values()) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_and_schedule_has_a_title(sampler: str) -> None:
    config = SchedulerConfig.from_mapping(BETAS)
    assert sampler in SAMPLER_TITLES
    for schedule in SAMPLERS[sampler].schedules:
        assert schedule_settings(sampler, schedule, 20, config)["Schedule type"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("steps", [1, 999, 1000])
def test_the_fewest_and_the_most_steps_have_a_title(file: str, steps: int) -> None:
    config = SchedulerConfig.from_mapping({**BETAS, **FILES[file]})
    assert schedule_settings("euler", "default", steps, config)["Schedule type"]


@pytest.mark.parametrize("sampler", ["dpm++_2m", "dpm++_sde", "dpm++_2m_sde"])
def test_no_sampler_is_left_to_its_own_schedule_there(sampler: str) -> None:
    settings = schedule_settings(sampler, "default", 20, SchedulerConfig.from_mapping(BETAS))
    assert settings["Schedule type"] in {"Uniform", "SGM Uniform"}
