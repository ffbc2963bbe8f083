"""Flow-match Euler, against diffusers and its own formula."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from runtime.errors import PackageError
from runtime.plan.sampling.noise import TorchGenerator
from runtime.plan.sampling.solvers.flow import FlowConfig, flow_step_table
from tests.runtime.plan.sampling.trajectories import (
    SEED,
    SHAPE,
    denoiser,
    difference,
    follow,
    run_scheduler,
)

STEPS = (1, 2, 5, 20, 100)

CONFIGS: list[dict[str, Any]] = [
    {},
    {"shift": 3.0},
    {"shift": 1.15, "num_train_timesteps": 500},
    {"use_dynamic_shifting": True, "shift": 3.0},
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    {"use_dynamic_shifting": True, "shift_terminal": 0.02},
    {"shift": 2.0, "shift_terminal": 0.1},
]


class Flow(FlowMatchEulerDiscreteScheduler):
    """diffusers' scheduler with what its pipelines do around it."""

    init_noise_sigma = 1.0
    mu: float | None = None
    own_sigmas = False

    def set_timesteps(self, steps: int) -> None:
        if self.own_sigmas:
            super().set_timesteps(sigmas=own_sigmas(steps), mu=self.mu)
        else:
            super().set_timesteps(steps, mu=self.mu)

    def scale_model_input(self, sample: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return sample


def own_sigmas(steps: int) -> list[float]:
    return np.linspace(1, 1 / steps, steps).tolist()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_latents_are_those_of_diffusers(config: dict[str, Any], own: bool) -> None:
    scheduler = Flow(**config)
    scheduler.mu = 0.8 if config.get("use_dynamic_shifting") else None
    scheduler.own_sigmas = own
    for steps in STEPS:
        if steps == 1 and "shift_terminal" in config:
            continue  # diffusers divides by 0: see below
        theirs = run_scheduler(scheduler, steps)
        table = flow_step_table(
            steps,
            FlowConfig.from_mapping(config),
            mu=scheduler.mu,
            sigmas=own_sigmas(steps) if own else None,
        )
        np.testing.assert_allclose(table.timesteps, scheduler.timesteps.numpy(), rtol=1e-5)
        assert difference(follow(table), theirs) < 3e-6


def test_the_formula() -> None:
    """x' = x + (sigma' - sigma) v, with sigma shifted as in eq. 23 of arXiv 2403.03206."""
    sigmas = np.array([1.0, 0.7, 0.4, 0.1])
    table = flow_step_table(4, FlowConfig(shift=3.0), sigmas=sigmas)
    shifted = np.append(3 * sigmas / (1 + 2 * sigmas), 0)
    x = TorchGenerator(SEED).randn((1, *SHAPE)).astype(np.float64)
    for sigma, following in pairwise(shifted):
        x = x + (following - sigma) * denoiser(x, 1000 * sigma)
    assert difference(follow(table, dtype=np.float64), x) < 1e-6
    assert table.initial_scale == 1.0
    assert table.draws.shape == (4, 0)


def test_the_predicted_picture() -> None:
    table = flow_step_table(3, FlowConfig(shift=3.0))
    sigma = table.timesteps / 1000
    picture, noise = 2.0, -0.5
    mixed = (1 - sigma) * picture + sigma * noise
    _, px, po = table.coefficients[:, :3].T
    np.testing.assert_allclose(px * mixed + po * (noise - picture), picture, rtol=1e-6)


def test_one_step_with_a_terminal_sigma() -> None:
    """The step that starts at 1 is the one that should end the schedule: it stays at 1."""
    config = FlowConfig(shift_terminal=0.02, use_dynamic_shifting=True)
    table = flow_step_table(1, config, mu=0.5)
    assert table.timesteps.tolist() == [1000]


def test_the_file_of_a_scheduler() -> None:
    raw = json.loads(
        FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).to_json_string()
    )
    assert FlowConfig.from_mapping(raw) == FlowConfig(shift=3.0, use_dynamic_shifting=True)
    assert FlowConfig.from_mapping({"shift_terminal": 0}) == FlowConfig()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"invert_sigmas": True}, "invert_sigmas is True, expected false"),
        ({"stochastic_sampling": True}, "stochastic_sampling is True"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas is True"),
        ({"use_exponential_sigmas": True}, "use_exponential_sigmas is True"),
        ({"use_beta_sigmas": True}, "use_beta_sigmas is True"),
        ({"time_shift_type": "cubic"}, "time_shift_type is 'cubic', expected 'exponential' or"),
        ({"shift": "3"}, "shift is '3', expected a number over 0"),
        ({"shift": 0}, "shift is 0, expected a number over 0"),
        ({"shift": None}, "shift is None, expected a number over 0"),
        ({"shift_terminal": 1.0}, "shift_terminal is 1.0, expected null or a number from 0 to 1"),
        ({"use_dynamic_shifting": 1}, "use_dynamic_shifting is 1, expected true or false"),
        ({"num_train_timesteps": True}, "num_train_timesteps is True, expected an integer over 0"),
        ({"max_image_seq_len": 0}, "max_image_seq_len is 0, expected an integer over 0"),
        ({"beta_start": 0.1}, "beta_start = 0.1 is no option of FlowMatchEulerDiscrete"),
    ],
    ids=str,
)
def test_what_we_cannot_honour_is_refused_by_name(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(PackageError) as refusal:
        FlowConfig.from_mapping(raw)
    assert str(refusal.value).startswith(f"scheduler_config.json: {message}")


def test_mistakes_of_a_caller() -> None:
    with pytest.raises(ValueError, match="3 sigmas for 4 steps"):
        flow_step_table(4, FlowConfig(), sigmas=[1.0, 0.5, 0.2])
    with pytest.raises(ValueError, match="needs mu"):
        flow_step_table(4, FlowConfig(use_dynamic_shifting=True))
