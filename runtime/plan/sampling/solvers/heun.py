"""Heun's method: an Euler step, corrected with the derivative at its end.

Algorithm 1 of Karras et al. 2022 (arXiv 2206.00364); HeunDiscreteScheduler of diffusers. Two rows
a step, but one of Euler's for the last, which goes to sigma 0.
"""

from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerOptions
from runtime.plan.sampling.schedules import initial_scale, sigma_schedule
from runtime.plan.sampling.solvers.euler import euler_row
from runtime.plan.sampling.solvers.predictions import derivative
from runtime.plan.sampling.table import StepTable, TableRow

HEUN = SchedulerClass(
    SchedulerOptions(beta_start=0.00085, beta_end=0.012),
    lacks=frozenset({"rescale_betas_zero_snr", "final_sigmas_type"}),
)


def heun(options: SchedulerOptions, steps: int) -> StepTable:
    """`2 * steps - 1` rows, no noise after the first."""
    timesteps, sigmas = sigma_schedule(options, steps)
    prediction = options.prediction_type
    rows = []
    for step in range(steps - 1):
        sigma, following = float(sigmas[step]), float(sigmas[step + 1])
        length = following - sigma
        predictor = Coefficients(*derivative(prediction, sigma), a=1.0, b=length)
        # From x + length * d1 to x + length * (d1 + d2) / 2; what is remembered is d1.
        reading = derivative(prediction, following)
        corrector = Coefficients(*reading, a=1.0, b=length / 2, c1=-length / 2)
        rows.append(TableRow(step, timesteps[step], predictor))
        rows.append(TableRow(step, timesteps[step + 1], corrector))
    last = euler_row(options, float(sigmas[steps - 1]), down=0.0)
    rows.append(TableRow(steps - 1, timesteps[steps - 1], last))
    return StepTable.of(rows, initial_scale=initial_scale(options, sigmas))
