"""Parametrisations: how the picture and the noise follow from a denoiser's output.

Epsilon prediction gives the noise; v prediction gives `alpha * noise - sigma * x0` of latents
`alpha * x0 + sigma * noise` with `alpha**2 + sigma**2 = 1` (Salimans and Ho 2022, appendix D).
The solvers differ in how they scale the latents and in what they remember of a call.
"""

from typing import NamedTuple

from runtime.plan.sampling.scheduler_config import Prediction


class Parametrization(NamedTuple):
    """The first five coefficients of a row: input scale, predicted picture, memory."""

    c_in: float
    px: float
    po: float
    qx: float
    qo: float


def picture(prediction: Prediction, sigma: float) -> Parametrization:
    """Of latents `x0 + sigma * noise`; remembers x0."""
    c_in = 1 / (sigma * sigma + 1) ** 0.5
    if prediction == "epsilon":
        px, po = 1.0, -sigma
    else:
        px, po = c_in * c_in, -sigma * c_in
    return Parametrization(c_in, px, po, px, po)


def derivative(prediction: Prediction, sigma: float) -> Parametrization:
    """Of latents `x0 + sigma * noise`; remembers their derivative by sigma, which is the noise."""
    reading = picture(prediction, sigma)
    if prediction == "epsilon":
        return reading._replace(qx=0.0, qo=1.0)
    return reading._replace(qx=sigma * reading.px, qo=reading.c_in)


def scaled_picture(prediction: Prediction, alpha: float, sigma: float) -> Parametrization:
    """Of latents `alpha * x0 + sigma * noise`, `alpha**2 + sigma**2 = 1`; remembers x0."""
    if prediction == "epsilon":
        px, po = 1 / alpha, -sigma / alpha
    else:
        px, po = alpha, -sigma
    return Parametrization(1.0, px, po, px, po)
