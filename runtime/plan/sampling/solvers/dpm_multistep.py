"""DPM-Solver++ multistep (Lu et al. 2022, arXiv 2211.01095), as an ODE (2M) and as an SDE (2M SDE).

DPMSolverMultistepScheduler of diffusers with algorithm_type "dpmsolver++" and "sde-dpmsolver++".
It remembers the predicted pictures m0, m1, m2, newest first, and solves

    x' = (sigma'/sigma) e^-(k-1)h x + alpha' (1 - e^-kh) m0 + corrections + n noise

over h, the step in half log SNR, with k = 1 for the ODE and 2 for the SDE; the corrections are the
higher orders' differences of the predicted pictures. One row a step.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerOptions
from runtime.plan.sampling.schedules import (
    SigmaSchedule,
    karras_sigmas,
    nearest_timesteps,
    training_sigmas,
)
from runtime.plan.sampling.solvers.predictions import scaled_picture
from runtime.plan.sampling.table import StepTable, TableRow

DPM_MULTISTEP = SchedulerClass()

# With fewer steps than this, lower_order_final has the last two steps of order 1 and 2.
FEW_STEPS = 15


class _Level(NamedTuple):
    """A noise level of latents `alpha * x0 + sigma * noise` with `alpha**2 + sigma**2 = 1`."""

    alpha: float
    sigma: float
    half_log_snr: float


def dpmpp_2m(options: SchedulerOptions, steps: int) -> StepTable:
    """The ODE: no noise after the first."""
    return _multistep(options, steps, k=1)


def dpmpp_2m_sde(options: SchedulerOptions, steps: int) -> StepTable:
    """The SDE: one draw a step, of which a last step to sigma 0 adds nothing."""
    return _multistep(options, steps, k=2)


def _multistep(options: SchedulerOptions, steps: int, k: int) -> StepTable:
    timesteps, sigmas = _schedule(options, steps)
    levels = [_level(float(sigma)) for sigma in sigmas]
    rows = []
    for step, timestep in enumerate(timesteps):
        order = _order(options, step, sigmas)
        past = levels[step + 1 - order : step + 1][::-1]
        row = _row(options, levels[step + 1], past, k)
        rows.append(TableRow(step, timestep, row, {step: 1.0} if row.n else {}))
    return StepTable.of(rows, initial_scale=1.0, draws=len(rows) if k == 2 else 0)


def _schedule(options: SchedulerOptions, steps: int) -> SigmaSchedule:
    training = training_sigmas(options)
    if options.use_karras_sigmas:
        # Over all training sigmas, where the other classes begin and end with their spacing's.
        sigmas = karras_sigmas(
            options.sigma_max or float(training[-1]),
            options.sigma_min or float(training[0]),
            steps,
        )
        timesteps = nearest_timesteps(sigmas, training)
        squared_cosine = options.beta_schedule == "squaredcos_cap_v2"
        timesteps = np.trunc(timesteps) if squared_cosine else timesteps.round()
    else:
        timesteps = _spaced(options, steps, training)
        sigmas = np.interp(timesteps, np.arange(len(training)), training)
    last = float(training[0]) if options.final_sigmas_type == "sigma_min" else 0.0
    return SigmaSchedule(timesteps, np.append(sigmas, last))


def _spaced(
    options: SchedulerOptions, steps: int, training: NDArray[np.float32]
) -> NDArray[np.float64]:
    """`[N]`, falling; fewer than N for trailing spacing with `lambda_min_clipped`.

    This class spaces N + 1 timesteps and leaves out the lowest, and starts where half the log SNR
    is at least `lambda_min_clipped`. As many steps as training timesteps are all of them, where
    leading spacing in diffusers divides by zero.
    """
    count = options.num_train_timesteps
    clipped = np.searchsorted(-np.log(training)[::-1], options.lambda_min_clipped)
    end = count - int(clipped)
    if options.timestep_spacing == "linspace":
        return np.linspace(0, end - 1, steps + 1).round()[:0:-1]
    if options.timestep_spacing == "leading":
        stride = max(end // (steps + 1), 1)
        return np.arange(steps, 0, -1, dtype=np.float64) * stride + options.steps_offset
    whole = -(-end * steps // count)
    return np.arange(end, 0, -count / steps, dtype=np.float64)[:whole].round() - 1


def _level(sigma: float) -> _Level:
    alpha = 1 / math.hypot(sigma, 1)
    return _Level(alpha, sigma * alpha, -math.log(sigma) if sigma else math.inf)


def _order(options: SchedulerOptions, step: int, sigmas: NDArray[np.float64]) -> int:
    """Number of predicted pictures that a step may use, its own included."""
    remaining = len(sigmas) - 1 - step
    few = options.lower_order_final and len(sigmas) - 1 < FEW_STEPS
    if remaining == 1 and (few or options.euler_at_final or options.final_sigmas_type == "zero"):
        return 1
    order = min(options.solver_order, step + 1)
    if remaining == 2 and few:
        order = min(order, 2)
    # Two steps at one and the same sigma have no slope between them.
    same = np.flatnonzero(np.diff(sigmas[step + 1 - order : step + 1][::-1]) <= 0)
    return int(same[0]) + 1 if same.size else order


def _row(options: SchedulerOptions, end: _Level, past: list[_Level], k: int) -> Coefficients:
    now = past[0]
    # Karras sigmas may end a rounding error below the training sigma that follows them.
    h = max(end.half_log_snr - now.half_log_snr, 0.0)
    weights = end.alpha * _weights(options, h, past, k) if h > 0 else np.zeros(3)
    return Coefficients(
        *scaled_picture(options.prediction_type, now.alpha, now.sigma),
        a=end.sigma / now.sigma * (math.exp(-h) if k == 2 else 1.0),
        b=weights[0],
        c1=weights[1],
        c2=weights[2],
        n=end.sigma * math.sqrt(-math.expm1(-2 * h)) if k == 2 else 0.0,
    )


def _weights(
    options: SchedulerOptions, h: float, past: list[_Level], k: int
) -> NDArray[np.float64]:
    """`[3]`: the shares of m0, m1, m2 in x' / alpha'. The order is the length of `past`."""
    m0, m1, m2 = np.eye(3)
    gain = -math.expm1(-k * h)
    if len(past) == 1:
        return gain * m0
    kh = k * h
    slope = 1 - gain / kh
    r0 = (past[0].half_log_snr - past[1].half_log_snr) / h
    newest = (m0 - m1) / r0
    if len(past) == 2:
        return gain * m0 + (gain / 2 if options.solver_type == "midpoint" else slope) * newest
    r1 = (past[1].half_log_snr - past[2].half_log_snr) / h
    change = newest - (m1 - m2) / r1
    first, second = newest + r0 / (r0 + r1) * change, change / (r0 + r1)
    # diffusers subtracts this half from the SDE's curvature where the expansion adds it.
    curvature = (gain - kh) / kh**2 + (0.5 if k == 1 else -0.5)
    return gain * m0 + slope * first + curvature * second
