"""DDIM without noise: eq. 12 of Song et al. 2020 (arXiv 2010.02502) at eta 0.

DDIMScheduler of diffusers. What it remembers is the predicted picture, and nothing reads it.
"""

import math

import numpy as np

from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerOptions
from runtime.plan.sampling.schedules import ZERO_SNR_ALPHA, alphas_cumprod, spaced_timesteps
from runtime.plan.sampling.solvers.predictions import scaled_picture
from runtime.plan.sampling.table import StepTable, TableRow

DDIM = SchedulerClass(
    SchedulerOptions(timestep_spacing="leading"),
    lacks=frozenset({"use_karras_sigmas", "sigma_min", "sigma_max", "final_sigmas_type"}),
)


def ddim(options: SchedulerOptions, steps: int) -> StepTable:
    """One row a step, no noise after the first.

    Where diffusers fails, this does not: a timestep past the last (as many steps as training
    timesteps, with an offset) is the last; and at a terminal SNR of 0, from which epsilon cannot
    tell the picture, epsilon prediction starts from the alpha that the other classes take for 0.
    """
    count = options.num_train_timesteps
    alphas = alphas_cumprod(options).astype(np.float64)
    final = 1.0 if options.set_alpha_to_one else float(alphas[0])
    if options.prediction_type == "epsilon":
        alphas[alphas == 0] = ZERO_SNR_ALPHA
    timesteps = np.minimum(spaced_timesteps(options, steps).round(), count - 1).astype(np.int64)
    rows = []
    for step, timestep in enumerate(timesteps):
        previous = timestep - count // steps
        alpha = float(alphas[timestep])
        following = float(alphas[previous]) if previous >= 0 else final
        reading = scaled_picture(options.prediction_type, math.sqrt(alpha), math.sqrt(1 - alpha))
        # sqrt(following) * x0 + sqrt(1 - following) * noise, with the noise that x and x0 leave.
        keep = math.sqrt((1 - following) / (1 - alpha))
        row = Coefficients(*reading, a=keep, b=math.sqrt(following) - keep * math.sqrt(alpha))
        rows.append(TableRow(step, float(timestep), row))
    return StepTable.of(rows, initial_scale=1.0)
