"""Samplers of distilled models, which jump to the picture and add noise again.

LCM is Luo et al. 2023 (arXiv 2310.04378), LCMScheduler of diffusers; TCD is Zheng et al. 2024
(arXiv 2402.19159), TCDScheduler of diffusers. What both remember is the predicted picture, and
nothing reads it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerOptions
from runtime.plan.sampling.schedules import ZERO_SNR_ALPHA, alphas_cumprod, spaced_timesteps
from runtime.plan.sampling.solvers.predictions import scaled_picture
from runtime.plan.sampling.table import StepTable, TableRow

CONSISTENCY = SchedulerClass(
    SchedulerOptions(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="distilled",
    ),
    # Both classes read the key `timestep_spacing` and do nothing with its value.
    lacks=frozenset(
        {"timestep_spacing", "use_karras_sigmas", "sigma_min", "sigma_max", "final_sigmas_type"}
    ),
)

_SIGMA_DATA = 0.5
"""The deviation of pictures that LCMScheduler assumes."""

_GAMMA = 0.3
"""TCD's stochasticity (`eta` in diffusers): the default of TCDScheduler and of the paper."""


def lcm(options: SchedulerOptions, steps: int) -> StepTable:
    """One row a step, which is the whole way to the picture; all but the last add their draw."""
    timesteps, alphas = _levels(options, steps)
    rows = []
    for step, timestep in enumerate(timesteps):
        alpha, scaled = float(alphas[timestep]), float(timestep) * options.timestep_scaling
        reading = scaled_picture(options.prediction_type, math.sqrt(alpha), math.sqrt(1 - alpha))
        # Boundary condition of Song et al. 2023 (arXiv 2303.01469): at timestep 0 nothing changes.
        skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
        out = scaled / math.hypot(scaled, _SIGMA_DATA)
        last = step == steps - 1
        following = 1.0 if last else float(alphas[timesteps[step + 1]])
        kept = math.sqrt(following)
        row = Coefficients(*reading, a=kept * skip, b=kept * out, n=math.sqrt(1 - following))
        rows.append(TableRow(step, float(timestep), row, {} if last else {step: 1.0}))
    return StepTable.of(rows, initial_scale=1.0, draws=steps - 1)


def tcd(options: SchedulerOptions, steps: int) -> StepTable:
    """One row a step: past the next timestep, and back to that with a draw of noise.

    The last step goes to timestep 0, whose little noise stays, and adds none.
    """
    timesteps, alphas = _levels(options, steps)
    rows = []
    for step, timestep in enumerate(timesteps):
        last = step == steps - 1
        target = 0 if last else int(timesteps[step + 1])
        alpha, following = float(alphas[timestep]), float(alphas[target])
        past = float(alphas[_below(target)])
        reading = scaled_picture(options.prediction_type, math.sqrt(alpha), math.sqrt(1 - alpha))
        keep = math.sqrt((1 - past) / (1 - alpha))
        back = 1.0 if last else math.sqrt(following / past)
        noise = 0.0 if last else math.sqrt(1 - following / past)
        shares = {"a": back * keep, "b": back * (math.sqrt(past) - keep * math.sqrt(alpha))}
        row = Coefficients(*reading, **shares, n=noise)
        rows.append(TableRow(step, float(timestep), row, {step: 1.0} if noise else {}))
    return StepTable.of(rows, initial_scale=1.0, draws=steps - 1)


def _below(timestep: int) -> int:
    """The timestep that TCD denoises to: `(1 - gamma) * timestep`, by torch's float32."""
    return int(np.floor(np.float32(1 - _GAMMA) * np.float32(timestep)))


def _levels(options: SchedulerOptions, steps: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The timesteps of the steps `[N]`, falling, and alphas_cumprod of all timesteps `[T]`.

    At a terminal SNR of 0 epsilon cannot tell the picture, and diffusers divides by 0: there the
    first step starts from the alpha that the other classes take for 0, as in `ddim`.
    """
    alphas = alphas_cumprod(options).astype(np.float64)
    if options.prediction_type == "epsilon":
        alphas[alphas == 0] = ZERO_SNR_ALPHA
    return spaced_timesteps(options, steps).astype(np.int64), alphas
