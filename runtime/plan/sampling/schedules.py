"""Noise schedules: from a model's training betas to the timesteps and sigmas of each step.

Two notations meet here. alphas_cumprod is the share of the picture in the noisy latents of a
training timestep, `x = sqrt(alphas_cumprod) * x0 + sqrt(1 - alphas_cumprod) * noise`; sigma is the
noise in the same latents scaled so that the picture has weight 1, `x0 + sigma * noise`.

The training tables are float32, as in diffusers and in the code that trained the models; what
follows from them is float64.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import PackageError
from runtime.plan.sampling.scheduler_config import SchedulerConfig, SchedulerOptions

__all__ = [
    "ZERO_SNR_ALPHA",
    "SchedulerConfig",
    "SigmaSchedule",
    "alphas_cumprod",
    "initial_scale",
    "karras_sigmas",
    "nearest_timesteps",
    "sigma_schedule",
    "spaced_timesteps",
    "training_sigmas",
]

FloatArray = NDArray[np.float64]

# diffusers puts this in place of 0 where a sigma is to be had from a terminal SNR of 0.
ZERO_SNR_ALPHA = 2.0**-24

KARRAS_RHO = 7.0


class SigmaSchedule(NamedTuple):
    """N steps from noise to picture."""

    timesteps: FloatArray
    """`[N]`, falling"""
    sigmas: FloatArray
    """`[N + 1]`, falling; step i goes from `sigmas[i]` to `sigmas[i + 1]`"""


def alphas_cumprod(options: SchedulerOptions) -> NDArray[np.float32]:
    """`[T]` for the T training timesteps; the last is 0 with `rescale_betas_zero_snr`.

    Raises PackageError for betas with which the noise does not grow from some to much.
    """
    betas = _betas(options)
    alphas = _cumulative_product(betas)
    if not (np.diff(alphas, prepend=np.float32(1)) < 0).all() or alphas[-1] <= 0:
        raise PackageError(
            f"scheduler_config.json: betas from {betas.min()} to {betas.max()} leave "
            f"{alphas[0]} to {alphas[-1]} of the picture, expected shares that fall from below 1 "
            "and stay over 0; check beta_start, beta_end and trained_betas"
        )
    return _rescaled_to_zero_snr(alphas) if options.rescale_betas_zero_snr else alphas


def training_sigmas(options: SchedulerOptions) -> NDArray[np.float32]:
    """`[T]`, rising; at a terminal SNR of 0 the last is 4096, as in diffusers."""
    alphas = alphas_cumprod(options)
    if options.rescale_betas_zero_snr:
        alphas[-1] = ZERO_SNR_ALPHA
    sigmas: NDArray[np.float32] = np.sqrt((np.float32(1) - alphas) / alphas)
    return sigmas


def _betas(options: SchedulerOptions) -> NDArray[np.float32]:
    count = options.num_train_timesteps
    if options.trained_betas is not None:
        return np.array(options.trained_betas, dtype=np.float32)
    if options.beta_schedule == "linear":
        return np.linspace(options.beta_start, options.beta_end, count, dtype=np.float32)
    if options.beta_schedule == "scaled_linear":
        roots = math.sqrt(options.beta_start), math.sqrt(options.beta_end)
        return np.square(np.linspace(*roots, count, dtype=np.float32))
    # squaredcos_cap_v2, Nichol and Dhariwal 2021, eq. 17.
    times = np.arange(count + 1) / count
    alpha_bar = np.square(np.cos((times + 0.008) / 1.008 * math.pi / 2))
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999).astype(np.float32)


def _rescaled_to_zero_snr(alphas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Algorithm 1 of Lin et al. 2023 (arXiv 2305.08891), in float32 as everywhere."""
    roots = np.sqrt(alphas)
    first, last = roots[0], roots[-1]
    rescaled = np.square((roots - last) * (first / (first - last)))
    return _cumulative_product(1 - np.append(rescaled[:1], rescaled[1:] / rescaled[:-1]))


def _cumulative_product(betas: NDArray[np.float32]) -> NDArray[np.float32]:
    # torch multiplies float32 in double precision and rounds each product.
    return np.cumprod(np.float32(1) - betas, dtype=np.float64).astype(np.float32)


def spaced_timesteps(options: SchedulerOptions, steps: int) -> FloatArray:
    """`[N]`, falling: table 2 of Lin et al. 2023 (arXiv 2305.08891).

    A single step is at the *lowest* timestep with linspace and leading spacing, as in diffusers:
    its table is sound, its picture is not. Trailing spacing has it at the highest.

    Where a count has no exact floating-point fraction, diffusers' trailing spacing ends with one
    step too many, at timestep -1 (61 is the only such count up to 100); we stop before it.

    Distilled spacing, of LCM and TCD, picks from the timesteps that a model was distilled at, as
    `set_timesteps` of these classes does.
    """
    count = options.num_train_timesteps
    if options.timestep_spacing == "distilled":
        trained = np.arange(options.most_steps, 0, -1) * (count // options.most_steps) - 1
        chosen = np.linspace(0, len(trained), steps, endpoint=False).astype(np.int64)
        return trained[chosen].astype(np.float64)
    if options.timestep_spacing == "linspace":
        return np.linspace(0, count - 1, steps)[::-1]
    if options.timestep_spacing == "leading":
        return np.arange(steps, dtype=np.float64)[::-1] * (count // steps) + options.steps_offset
    return np.arange(count, 0, -count / steps, dtype=np.float64)[:steps].round() - 1


def karras_sigmas(sigma_max: float, sigma_min: float, steps: int) -> FloatArray:
    """`[N]` from `sigma_max` to `sigma_min`: Karras et al. 2022 (arXiv 2206.00364), eq. 5.

    A single step is at `sigma_max`.
    """
    ramp = np.linspace(0, 1, steps)
    high, low = sigma_max ** (1 / KARRAS_RHO), sigma_min ** (1 / KARRAS_RHO)
    return np.asarray((high + ramp * (low - high)) ** KARRAS_RHO, dtype=np.float64)


def nearest_timesteps(sigmas: FloatArray, training: NDArray[np.float32]) -> FloatArray:
    """The training timesteps, with fractions, that have these sigmas: linear in log sigma.

    The logarithms of the training sigmas are float32 as in diffusers, which rounds or even
    truncates some of these timesteps to integers.
    """
    logs = np.log(training)
    targets = np.log(np.maximum(sigmas, 1e-10))
    low = np.clip(np.searchsorted(logs, targets, side="right") - 1, 0, len(logs) - 2)
    weight = np.clip((logs[low] - targets) / (logs[low] - logs[low + 1]), 0, 1)
    return np.asarray((1 - weight) * low + weight * (low + 1), dtype=np.float64)


def sigma_schedule(options: SchedulerOptions, steps: int) -> SigmaSchedule:
    """The schedule of the classes that step from sigma to sigma: Euler, Heun, LMS, DPM++ SDE."""
    training = training_sigmas(options)
    # diffusers looks its sigmas up at timesteps that it has rounded to float32.
    timesteps = spaced_timesteps(options, steps).astype(np.float32).astype(np.float64)
    sigmas = np.interp(timesteps, np.arange(len(training)), training)
    if options.use_karras_sigmas:
        sigmas = karras_sigmas(
            options.sigma_max or float(sigmas[0]), options.sigma_min or float(sigmas[-1]), steps
        )
        timesteps = nearest_timesteps(sigmas, training)
    last = float(training[0]) if options.final_sigmas_type == "sigma_min" else 0.0
    return SigmaSchedule(timesteps, np.append(sigmas, last))


def initial_scale(options: SchedulerOptions, sigmas: FloatArray) -> float:
    """Scale of the initial noise for the classes that step from sigma to sigma."""
    highest = float(sigmas.max())
    if options.timestep_spacing == "leading":
        return math.hypot(highest, 1.0)
    return highest
