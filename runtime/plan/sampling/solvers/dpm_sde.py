"""DPM-Solver++ SDE in one step: k-diffusion's `sample_dpmpp_sde`, midpoint halfway in log sigma.

DPMSolverSDEScheduler of diffusers. Two rows a step, but one for the last, which goes to sigma 0;
what it remembers is the predicted picture. At one step this is Euler's.

diffusers takes its noise from a Brownian motion W over sigma: a move from s to t adds
`(W(t) - W(s)) / sqrt(s - t)`, scaled, and both rows of a step move from the same s, the first one
to the midpoint m, the second one to the end e. So their noises share the stretch from s to m. Here
W is two independent draws a step, z1 for that stretch and z2 for the one from m to e:

    first  = z1
    second = sqrt((s - m) / (s - e)) * z1 + sqrt((m - e) / (s - e)) * z2

The second row starts from the step's beginning again, so it takes the first row's noise back out.
"""

import math

from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerOptions
from runtime.plan.sampling.schedules import (
    initial_scale,
    nearest_timesteps,
    sigma_schedule,
    training_sigmas,
)
from runtime.plan.sampling.solvers.euler import ancestral_step, euler_row
from runtime.plan.sampling.solvers.predictions import picture
from runtime.plan.sampling.table import StepTable, TableRow

DPM_SDE = SchedulerClass(
    SchedulerOptions(beta_start=0.00085, beta_end=0.012),
    lacks=frozenset({"rescale_betas_zero_snr", "sigma_min", "sigma_max", "final_sigmas_type"}),
)


def dpmpp_sde(options: SchedulerOptions, steps: int) -> StepTable:
    """`2 * steps - 1` rows and `2 * (steps - 1)` draws: 2 i and 2 i + 1 are z1 and z2 of step i."""
    timesteps, sigmas = sigma_schedule(options, steps)
    middles = (sigmas[: steps - 1] * sigmas[1:steps]) ** 0.5
    middle_timesteps = nearest_timesteps(middles, training_sigmas(options))
    rows = []
    for step, middle in enumerate(middles.tolist()):
        start, end = float(sigmas[step]), float(sigmas[step + 1])
        rows.append(_first(options, step, timesteps[step], (start, middle)))
        rows.append(_second(options, step, middle_timesteps[step], (start, middle, end)))
    last = euler_row(options, float(sigmas[steps - 1]), down=0.0)
    rows.append(TableRow(steps - 1, timesteps[steps - 1], last))
    return StepTable.of(rows, initial_scale=initial_scale(options, sigmas), draws=2 * (steps - 1))


def _first(
    options: SchedulerOptions, step: int, timestep: float, levels: tuple[float, float]
) -> TableRow:
    """To the midpoint: `down / start` of the latents, the rest the picture, and noise."""
    start, middle = levels
    down, up = ancestral_step(start, middle)
    row = euler_row(options, start, down, up)
    return TableRow(step, timestep, row, {2 * step: 1.0} if up else {})


def _second(
    options: SchedulerOptions, step: int, timestep: float, levels: tuple[float, float, float]
) -> TableRow:
    """From the start to the end with the midpoint's picture.

    The start is what the midpoint leaves when the first row's picture and noise are taken out.
    """
    start, middle, end = levels
    first_down, first_up = ancestral_step(start, middle)
    down, up = ancestral_step(start, end)
    undo = down / first_down
    length = (start - end) or math.inf
    z1 = up * math.sqrt((start - middle) / length) - undo * first_up
    z2 = up * math.sqrt((middle - end) / length)
    n = math.hypot(z1, z2)
    row = Coefficients(
        *picture(options.prediction_type, middle),
        a=undo,
        b=1 - down / start,
        c1=-undo * (1 - first_down / start),
        n=n,
    )
    return TableRow(step, timestep, row, {2 * step: z1 / n, 2 * step + 1: z2 / n} if n else {})
