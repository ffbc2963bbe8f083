"""Euler and Euler ancestral, as k-diffusion has them after Karras et al. 2022 (arXiv 2206.00364).

EulerDiscreteScheduler and EulerAncestralDiscreteScheduler of diffusers. What they remember is the
predicted picture, and nothing reads it.
"""

import math

from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerOptions
from runtime.plan.sampling.schedules import initial_scale, sigma_schedule
from runtime.plan.sampling.solvers.predictions import picture
from runtime.plan.sampling.table import StepTable, TableRow

EULER = SchedulerClass()
EULER_ANCESTRAL = SchedulerClass(
    lacks=frozenset({"use_karras_sigmas", "sigma_min", "sigma_max", "final_sigmas_type"})
)


def euler(options: SchedulerOptions, steps: int) -> StepTable:
    """One row a step, no noise after the first."""
    timesteps, sigmas = sigma_schedule(options, steps)
    rows = []
    for step in range(steps):
        sigma, following = float(sigmas[step]), float(sigmas[step + 1])
        row = euler_row(options, sigma, down=following)
        rows.append(TableRow(step, timesteps[step], row))
    return StepTable.of(rows, initial_scale=initial_scale(options, sigmas))


def euler_ancestral(options: SchedulerOptions, steps: int) -> StepTable:
    """One row and one draw a step; the last step adds none of its draw."""
    timesteps, sigmas = sigma_schedule(options, steps)
    rows = []
    for step in range(steps):
        sigma, following = float(sigmas[step]), float(sigmas[step + 1])
        down, up = ancestral_step(sigma, following)
        row = euler_row(options, sigma, down, up)
        rows.append(TableRow(step, timesteps[step], row, {step: 1.0} if up else {}))
    return StepTable.of(rows, initial_scale=initial_scale(options, sigmas), draws=steps)


def euler_row(
    options: SchedulerOptions, sigma: float, down: float, up: float = 0.0
) -> Coefficients:
    """From `sigma` straight towards the picture, to `down`; then noise of deviation `up`.

    This is `x + (down - sigma) * (x - x0) / sigma` without the difference: at the sigma of 4096
    that stands for a terminal SNR of 0, float32 would lose in it all but the first few digits.
    """
    keep = down / sigma
    return Coefficients(*picture(options.prediction_type, sigma), a=keep, b=1 - keep, n=up)


def ancestral_step(sigma: float, following: float) -> tuple[float, float]:
    """How far to step down, and how much noise to add, to be at `following`.

    k-diffusion's `get_ancestral_step`: `down**2 + up**2 = following**2`.
    """
    down = following * following / sigma
    return down, math.sqrt(max(following * following - down * down, 0.0))
