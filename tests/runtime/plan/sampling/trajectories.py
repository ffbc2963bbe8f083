"""One sample through a step table, and through a scheduler of diffusers, with the same denoiser."""

import inspect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from runtime.plan.sampling.noise import Draws
from runtime.plan.sampling.table import StepTable

SHAPE = (4, 4, 6)
SEED = 20221107

# SDXL's own betas, which its checkpoints' scheduler_config.json gives.
SDXL: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
}

# What each sampler equals in diffusers, and what it overrides in the model's configuration.
CLASSES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++_sde": ("DPMSolverSDEScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}

CONSISTENCY = ("lcm", "tcd")

# What each schedule changes in that.
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "karras": {"use_karras_sigmas": True},
    "sgm_uniform": {"timestep_spacing": "trailing", "use_karras_sigmas": False},
}

Array = NDArray[np.float64]


def denoiser(x: Array, timestep: float) -> Array:
    """Stands in for a network: mixes the channels, not linear, and knows the time."""
    mixing = np.random.default_rng(3).normal(0, 0.5, (SHAPE[0], SHAPE[0]))
    return np.tanh(np.einsum("ij,bjhw->bihw", mixing, x) + 0.001 * timestep) + 0.1 * x


def follow(table: StepTable, *, dtype: type[np.floating[Any]] = np.float32) -> Array:
    """Final latents of the table, in the arithmetic of `dtype`; the step graph's is float32."""
    draws = Draws(SEED, SHAPE, table.draws)
    x = draws.initial().astype(dtype) * dtype(table.initial_scale)
    history = [np.zeros_like(x)] * 3
    for row in range(table.rows):
        c_in, _, _, qx, qo, a, b, c1, c2, c3, n = table.coefficients[row].astype(dtype)
        output = denoiser((c_in * x).astype(np.float64), float(table.timesteps[row])).astype(dtype)
        remembered = qx * x + qo * output
        x = a * x + b * remembered + c1 * history[0] + c2 * history[1] + c3 * history[2]
        noise = draws.noise(row)
        if noise is not None:
            x += n * noise.astype(dtype)
        history = [remembered, *history[:2]]
    return x.astype(np.float64)


def scheduler_of(sampler: str, config: Mapping[str, Any], schedule: str = "default") -> Any:
    """diffusers' scheduler for a sampler, configured as `from_config` does it."""
    name, overrides = CLASSES[sampler]
    changes = {**overrides, **OVERRIDES[schedule]}
    # torch takes roots and ranges from vector code of the processor it finds. On some the last bit
    # is off, which rescaling to an SNR of 0 makes thousands of times as large: the reference would
    # be another one on each machine.
    with (
        mock.patch.object(torch.Tensor, "sqrt", _rounded_root),
        mock.patch.object(torch, "linspace", _rounded_range),
    ):
        scheduler = getattr(diffusers, name).from_config(dict(config), **changes)
    if sampler in CONSISTENCY and schedule == "sgm_uniform":
        _space_evenly(scheduler)
    return scheduler


def _space_evenly(scheduler: Any) -> None:
    """LCM and TCD have no trailing spacing of their own: they are given EulerDiscreteScheduler's,
    as the cards of few-step models do it.
    """
    euler = diffusers.EulerDiscreteScheduler.from_config(
        scheduler.config, **OVERRIDES["sgm_uniform"]
    )
    given = scheduler.set_timesteps

    def set_timesteps(steps: int) -> None:
        euler.set_timesteps(steps)
        given(timesteps=euler.timesteps.int().tolist())

    scheduler.set_timesteps = set_timesteps


def _rounded_root(values: torch.Tensor) -> torch.Tensor:
    """Each root is the float nearest to the true one, as IEEE 754 asks; NumPy keeps to it."""
    return torch.from_numpy(np.sqrt(values.numpy()))


def _rounded_range(start: float, end: float, steps: int, dtype: torch.dtype) -> torch.Tensor:
    """Each value is the float nearest to the true one."""
    return torch.from_numpy(np.linspace(start, end, steps)).to(dtype)


def run_scheduler(scheduler: Any, steps: int) -> Array:
    """Final latents of diffusers' loop at batch 1, with a generator of the same seed.

    The index of the first step is set, as img2img pipelines do: without it the classes look the
    first timestep up, and take the second place where it stands twice.
    """
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn((1, *SHAPE), generator=generator) * scheduler.init_noise_sigma
    keywords: dict[str, Any] = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        keywords["generator"] = generator
    if isinstance(scheduler, diffusers.DPMSolverSDEScheduler):
        scheduler.noise_sampler = BrownianPath(scheduler.sigmas[::2].tolist(), generator)
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, timestep)
        output = torch.from_numpy(denoiser(seen.double().numpy(), float(timestep))).float()
        x = scheduler.step(output, timestep, x, **keywords).prev_sample
    return x.double().numpy()


class BrownianPath:
    """Stands in for the noise sampler of DPMSolverSDEScheduler, on one path from our two draws.

    The path W over sigma starts at the first sigma and is built of independent increments: of each
    step, one to the middle (in log sigma) and one from there. As BrownianTreeNoiseSampler does, a
    call gives `(W(end) - W(start)) / sqrt(start - end)`.
    """

    def __init__(self, sigmas: Sequence[float], generator: torch.Generator) -> None:
        self._sigmas = [sigmas[0]]
        self._path = [torch.zeros((1, *SHAPE))]
        for start, end in pairwise(sigmas):
            for sigma in ((start * end) ** 0.5, end):
                draw = torch.randn((1, *SHAPE), generator=generator)
                self._path.append(self._path[-1] + (self._sigmas[-1] - sigma) ** 0.5 * draw)
                self._sigmas.append(sigma)

    def __call__(self, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        first, last = self._index(float(start)), self._index(float(end))
        length = self._sigmas[first] - self._sigmas[last]
        return (self._path[last] - self._path[first]) / length**0.5

    def _index(self, sigma: float) -> int:
        """The class asks in float32, which moves the sigmas by their last bits."""
        nearest = int(np.abs(np.array(self._sigmas) - sigma).argmin())
        assert abs(self._sigmas[nearest] - sigma) < 1e-5 * sigma
        return nearest


def difference(ours: Array, theirs: Array) -> float:
    """The largest difference, relative to the largest latent."""
    assert np.isfinite(ours).all()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
