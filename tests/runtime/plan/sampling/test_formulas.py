"""Every sampler's table against its published formula, written out here in float64.

Nothing of the sampling package but the finished table is used: the noise schedule is computed from
the betas in float64 too. The formulas are those of k-diffusion (`sample_euler` and so on), which
scales latents as `x0 + sigma * noise`, and of the DDIM paper.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from runtime.plan.sampling.noise import TorchGenerator
from runtime.plan.sampling.samplers import SAMPLERS, step_table
from runtime.plan.sampling.schedules import SchedulerConfig
from tests.runtime.plan.sampling.trajectories import (
    CONSISTENCY,
    SDXL,
    SEED,
    SHAPE,
    Array,
    denoiser,
    follow,
)

STEPS = (1, 2, 5, 20, 100)
TRAINING = 1000

# The tables follow diffusers in that the training betas are float32, which moves the lowest sigma,
# where some spacings have their single step, by 1.3e-5 of itself. Everything else is under 1e-6.
TOLERANCE = 2e-5


def alphas_cumprod(*, zero_snr: bool = False) -> Array:
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, TRAINING) ** 2)
    if zero_snr:  # algorithm 1 of arXiv 2305.08891
        roots = np.sqrt(alphas)
        alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return np.asarray(alphas)


def training_sigmas(*, zero_snr: bool = False) -> Array:
    alphas = alphas_cumprod(zero_snr=zero_snr)
    # diffusers puts the least half-precision number for a share of 0.
    alphas = np.maximum(alphas, 2.0**-24)
    return np.sqrt((1 - alphas) / alphas)


def spaced(spacing: str, steps: int) -> Array:
    if spacing == "linspace":
        return np.linspace(TRAINING - 1, 0, steps) if steps > 1 else np.zeros(1)
    if spacing == "leading":
        return np.array([1.0 + TRAINING // steps * (steps - 1 - i) for i in range(steps)])
    return np.array([round(TRAINING - i * TRAINING / steps) - 1.0 for i in range(steps)])


def karras(high: float, low: float, steps: int) -> Array:
    ramp = np.array([i / max(steps - 1, 1) for i in range(steps)])
    return np.asarray((high ** (1 / 7) * (1 - ramp) + low ** (1 / 7) * ramp) ** 7)


@dataclass(frozen=True)
class Problem:
    """N steps at these sigmas (0 at the end) and timesteps, a denoiser, and the sampler's draws."""

    sigmas: Array
    timesteps: Array
    prediction: str
    draws: Iterator[Array]

    def denoised(self, x: Array, sigma: float, timestep: float) -> Array:
        """The picture in latents `x0 + sigma * noise`."""
        c_in = 1 / math.sqrt(sigma**2 + 1)
        output = denoiser(c_in * x, timestep)
        if self.prediction == "epsilon":
            return x - sigma * output
        return c_in**2 * x - sigma * c_in * output

    def timestep(self, sigma: float) -> float:
        """Of any sigma: linear in log sigma."""
        return float(
            np.interp(math.log(sigma), np.log(training_sigmas()), np.arange(float(TRAINING)))
        )


Formula = Callable[[Problem, Array], Array]


def ancestral(start: float, end: float) -> tuple[float, float]:
    up = min(end, math.sqrt(end**2 * (start**2 - end**2) / start**2))
    return math.sqrt(end**2 - up**2), up


def euler(problem: Problem, x: Array) -> Array:
    for i, t in enumerate(problem.timesteps):
        sigma, following = problem.sigmas[i : i + 2]
        d = (x - problem.denoised(x, sigma, t)) / sigma
        x = x + d * (following - sigma)
    return x


def euler_ancestral(problem: Problem, x: Array) -> Array:
    for i, t in enumerate(problem.timesteps):
        sigma, following = problem.sigmas[i : i + 2]
        down, up = ancestral(sigma, following)
        d = (x - problem.denoised(x, sigma, t)) / sigma
        x = x + d * (down - sigma) + up * next(problem.draws)
    return x


def heun(problem: Problem, x: Array) -> Array:
    for i, t in enumerate(problem.timesteps):
        sigma, following = problem.sigmas[i : i + 2]
        d = (x - problem.denoised(x, sigma, t)) / sigma
        predicted = x + d * (following - sigma)
        if following > 0:
            after = problem.denoised(predicted, following, problem.timesteps[i + 1])
            d = (d + (predicted - after) / following) / 2
        x = x + d * (following - sigma)
    return x


def lms(problem: Problem, x: Array) -> Array:
    def weight(i: int, j: int, order: int) -> float:
        def basis(tau: float) -> float:
            others = [problem.sigmas[i - k] for k in range(order) if k != j]
            return math.prod((tau - s) / (problem.sigmas[i - j] - s) for s in others)

        return float(integrate.quad(basis, problem.sigmas[i], problem.sigmas[i + 1])[0])

    slopes: list[Array] = []
    for i, t in enumerate(problem.timesteps):
        slopes.insert(0, (x - problem.denoised(x, problem.sigmas[i], t)) / problem.sigmas[i])
        order = min(i + 1, 4)
        x = x + sum((weight(i, j, order) * slopes[j] for j in range(order)), np.zeros_like(x))
    return x


def dpmpp_2m(problem: Problem, x: Array) -> Array:
    old = None
    for i, t in enumerate(problem.timesteps):
        sigma, following = problem.sigmas[i : i + 2]
        denoised = problem.denoised(x, sigma, t)
        h = math.log(sigma / following) if following else math.inf
        extrapolated = denoised
        if old is not None and following > 0:
            r = math.log(problem.sigmas[i - 1] / sigma) / h
            extrapolated = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x = following / sigma * x - math.expm1(-h) * extrapolated
        old = denoised
    return x


def dpmpp_2m_sde(problem: Problem, x: Array) -> Array:
    old = None
    for i, t in enumerate(problem.timesteps):
        sigma, following = problem.sigmas[i : i + 2]
        denoised = problem.denoised(x, sigma, t)
        noise = next(problem.draws)
        if following == 0:
            return denoised
        h = math.log(sigma / following)
        x = following / sigma * math.exp(-h) * x - math.expm1(-2 * h) * denoised
        if old is not None:
            r = math.log(problem.sigmas[i - 1] / sigma) / h
            x = x - 0.5 * math.expm1(-2 * h) / r * (denoised - old)
        x = x + noise * following * math.sqrt(-math.expm1(-2 * h))
        old = denoised
    return x


def dpmpp_sde(problem: Problem, x: Array) -> Array:
    for i, t in enumerate(problem.timesteps):
        sigma, following = problem.sigmas[i : i + 2]
        denoised = problem.denoised(x, sigma, t)
        if following == 0:
            return denoised
        middle = math.sqrt(sigma * following)
        to_middle = math.sqrt(sigma - middle) * next(problem.draws)
        onwards = math.sqrt(middle - following) * next(problem.draws)
        down, up = ancestral(sigma, middle)
        halfway = down / sigma * x + (1 - down / sigma) * denoised
        halfway = halfway + up * to_middle / math.sqrt(sigma - middle)
        denoised = problem.denoised(halfway, middle, problem.timestep(middle))
        down, up = ancestral(sigma, following)
        x = down / sigma * x + (1 - down / sigma) * denoised
        x = x + up * (to_middle + onwards) / math.sqrt(sigma - following)
    return x


FORMULAS: dict[str, Formula] = {
    "euler": euler,
    "euler_a": euler_ancestral,
    "heun": heun,
    "lms": lms,
    "dpm++_2m": dpmpp_2m,
    "dpm++_2m_sde": dpmpp_2m_sde,
    "dpm++_sde": dpmpp_sde,
}

MULTISTEP = ("dpm++_2m", "dpm++_2m_sde")


def multistep_timesteps(spacing: str, steps: int) -> Array:
    """N + 1 places of which the lowest is left out."""
    if spacing == "linspace":
        return np.round(np.linspace(TRAINING - 1, 0, steps + 1))[:steps]
    if spacing == "leading":
        return np.array([1.0 + TRAINING // (steps + 1) * (steps - i) for i in range(steps)])
    return spaced(spacing, steps)


def relative(ours: Array, reference: Array) -> float:
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


def draws() -> Iterator[Array]:
    generator = TorchGenerator(SEED)
    while True:
        yield generator.randn((1, *SHAPE)).astype(np.float64)


def consistency(sampler: str, prediction: str, timesteps: Array) -> Array:
    """LCM (arXiv 2310.04378, algorithm 1) and TCD at gamma 0.3 (arXiv 2402.19159, algorithm 4)."""
    alphas, noise = alphas_cumprod(), draws()
    x = next(noise)
    for t, following in pairwise([*timesteps.astype(int), None]):
        signal, rest = math.sqrt(alphas[t]), math.sqrt(1 - alphas[t])
        output = denoiser(x, float(t))
        if prediction == "epsilon":
            x0, direction = (x - rest * output) / signal, output
        else:
            x0, direction = signal * x - rest * output, signal * output + rest * x
        if sampler == "lcm":
            skip = 0.25 / ((10 * t) ** 2 + 0.25)
            x = skip * x + math.sqrt(1 - skip) * x0
            reached = 1.0
        else:
            reached = alphas[math.floor(0.7 * following)] if following else alphas[0]
            x = math.sqrt(reached) * x0 + math.sqrt(1 - reached) * direction
        if following is not None:
            share = alphas[following] / reached
            x = math.sqrt(share) * x + math.sqrt(1 - share) * next(noise)
    return x


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", CONSISTENCY)
def test_consistency(sampler: str, prediction: str) -> None:
    config = SchedulerConfig.from_mapping({**SDXL, "prediction_type": prediction})
    distilled = np.array([999.0, 759.0, 499.0, 259.0])
    for schedule, timesteps in (("default", distilled), ("sgm_uniform", spaced("trailing", 4))):
        table = step_table(sampler, schedule, 4, config)
        assert table.timesteps.tolist() == timesteps.tolist()
        reference = consistency(sampler, prediction, timesteps)
        assert relative(follow(table, dtype=np.float64), reference) < TOLERANCE


def expected(
    sampler: str,
    schedule: str,
    spacing: str,
    prediction: str,
    steps: int,
    *,
    zero_snr: bool = False,
) -> Array:
    spacing = "trailing" if schedule == "sgm_uniform" else spacing
    training = training_sigmas(zero_snr=zero_snr)
    places = np.arange(float(TRAINING))
    multistep = sampler in MULTISTEP
    timesteps = (multistep_timesteps if multistep else spaced)(spacing, steps)
    sigmas = np.interp(timesteps, places, training)
    if schedule == "karras":
        ends = (training[-1], training[0]) if multistep else (sigmas[0], sigmas[-1])
        sigmas = karras(*ends, steps)
        timesteps = np.interp(np.log(sigmas), np.log(training), places)
        timesteps = timesteps.round() if multistep else timesteps
    noise = draws()
    first = next(noise)
    highest = sigmas.max()
    scale = math.sqrt(highest**2 + 1) if multistep or spacing == "leading" else highest
    problem = Problem(np.append(sigmas, 0.0), timesteps, prediction, noise)
    return FORMULAS[sampler](problem, scale * first)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [(name, schedule) for name in FORMULAS for schedule in SAMPLERS[name].schedules],
)
def test_the_published_formula(sampler: str, schedule: str, spacing: str, prediction: str) -> None:
    config = {**SDXL, "timestep_spacing": spacing, "prediction_type": prediction}
    for steps in STEPS:
        table = step_table(sampler, schedule, steps, SchedulerConfig.from_mapping(config))
        reference = expected(sampler, schedule, spacing, prediction, steps)
        assert relative(follow(table, dtype=np.float64), reference) < TOLERANCE, steps


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [
        (name, schedule)
        for name in ("euler", "euler_a", *MULTISTEP)
        for schedule in SAMPLERS[name].schedules
    ],
)
def test_a_terminal_snr_of_zero_in_single_precision(
    sampler: str, schedule: str, spacing: str, prediction: str
) -> None:
    """From sigma 4096, with the latents in float32 as the step graph has them."""
    config = {
        **SDXL,
        "timestep_spacing": spacing,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": True,
    }
    for steps in STEPS:
        table = step_table(sampler, schedule, steps, SchedulerConfig.from_mapping(config))
        reference = expected(sampler, schedule, spacing, prediction, steps, zero_snr=True)
        assert relative(follow(table), reference) < TOLERANCE, steps


@pytest.mark.parametrize("final_alpha", [True, False])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_ddim(spacing: str, prediction: str, final_alpha: bool) -> None:
    """Eq. 12 of arXiv 2010.02502 with sigma 0."""
    alphas = alphas_cumprod()
    config = {
        **SDXL,
        "timestep_spacing": spacing,
        "prediction_type": prediction,
        "set_alpha_to_one": final_alpha,
    }
    for steps in STEPS:
        x = next(draws())
        for t in spaced(spacing, steps).round().astype(int):
            alpha, before = alphas[t], t - TRAINING // steps
            following = alphas[before] if before >= 0 else 1.0 if final_alpha else alphas[0]
            output = denoiser(x, float(t))
            if prediction == "epsilon":
                x0, noise = (x - math.sqrt(1 - alpha) * output) / math.sqrt(alpha), output
            else:
                x0 = math.sqrt(alpha) * x - math.sqrt(1 - alpha) * output
                noise = math.sqrt(alpha) * output + math.sqrt(1 - alpha) * x
            x = math.sqrt(following) * x0 + math.sqrt(1 - following) * noise
        table = step_table("ddim", "default", steps, SchedulerConfig.from_mapping(config))
        assert relative(follow(table, dtype=np.float64), x) < TOLERANCE, steps


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_predicted_picture_is_the_one_in_the_latents(sampler: str, prediction: str) -> None:
    """px and po, which previews read, of latents that are mixed from a known picture and noise."""
    config = {**SDXL, "prediction_type": prediction, "timestep_spacing": "trailing"}
    table = step_table(sampler, "default", 3, SchedulerConfig.from_mapping(config))
    generator = draws()
    picture, noise = next(generator), next(generator)
    for timestep, coefficients in zip(table.timesteps, table.coefficients, strict=True):
        log_sigma = np.interp(timestep, np.arange(float(TRAINING)), np.log(training_sigmas()))
        signal = 1 / math.hypot(1, math.exp(log_sigma))
        mixed = signal * picture + math.sqrt(1 - signal**2) * noise
        velocity = signal * noise - math.sqrt(1 - signal**2) * picture
        output = noise if prediction == "epsilon" else velocity
        c_in, px, po = coefficients[:3].astype(float)
        assert relative(px * mixed / c_in + po * output, picture) < TOLERANCE
