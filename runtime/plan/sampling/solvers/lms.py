"""The linear multistep method: Adams-Bashforth of order 4 over uneven sigmas.

LMSDiscreteScheduler of diffusers, after k-diffusion's `sample_lms`; what it remembers is the
derivative. At one step this is Euler's.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerOptions
from runtime.plan.sampling.schedules import initial_scale, sigma_schedule
from runtime.plan.sampling.solvers.predictions import derivative
from runtime.plan.sampling.table import StepTable, TableRow

LMS = SchedulerClass(
    lacks=frozenset({"rescale_betas_zero_snr", "sigma_min", "sigma_max", "final_sigmas_type"})
)

ORDER = 4


def lms(options: SchedulerOptions, steps: int) -> StepTable:
    """One row a step, no noise after the first.

    Steps at one and the same sigma, which leading spacing makes of the two highest timesteps when
    there are as many steps as training timesteps, divide by zero in diffusers; here the order is
    reduced to the sigmas that differ.
    """
    timesteps, sigmas = sigma_schedule(options, steps)
    rows = []
    for step in range(steps):
        nodes = sigmas[max(step + 1 - ORDER, 0) : step + 1][::-1]
        same = np.flatnonzero(nodes[1:] <= nodes[:-1])
        nodes = nodes[: same[0] + 1] if same.size else nodes
        weights = _adams_bashforth(nodes, sigmas[step + 1])
        reading = derivative(options.prediction_type, float(sigmas[step]))
        rows.append(TableRow(step, timesteps[step], Coefficients(*reading, 1.0, *weights)))
    return StepTable.of(rows, initial_scale=initial_scale(options, sigmas))


def _adams_bashforth(nodes: NDArray[np.float64], end: float) -> list[float]:
    """For each node, the integral of its Lagrange polynomial from the first node to `end`.

    Gauss-Legendre with two points integrates the polynomials, of degree 3 at most, exactly.
    """
    points, shares = np.polynomial.legendre.leggauss(2)
    half = (end - nodes[0]) / 2
    at = nodes[0] + half * (points + 1)
    weights = []
    for index, node in enumerate(nodes):
        others = np.delete(nodes, index)
        basis = np.prod((at[:, None] - others) / (node - others), axis=1)
        weights.append(float(half * np.dot(shares, basis)))
    return weights
