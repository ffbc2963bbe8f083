"""Samplers and noise schedules by the names of AUTOMATIC1111's web UI, which other tools look up.

Samplers: modules/sd_samplers_kdiffusion.py and sd_samplers_timesteps.py there. Schedules, since its
version 1.9: modules/sd_schedulers.py. "Automatic" there is a schedule of each sampler's own (Karras
for DPM++ 2M and DPM++ SDE, exponential for DPM++ 2M SDE), so the name says the schedule itself.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.plan.sampling.samplers import SAMPLERS, step_table
from runtime.plan.sampling.scheduler_config import SchedulerConfig
from runtime.plan.sampling.schedules import training_sigmas

SAMPLER_TITLES: Mapping[str, str] = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "ddim": "DDIM",
    "heun": "Heun",
    "lms": "LMS",
    "dpm++_2m": "DPM++ 2M",
    "dpm++_2m_sde": "DPM++ 2M SDE",
    "dpm++_sde": "DPM++ SDE",
    "lcm": "LCM",
    "tcd": "TCD",
}

SAMPLER_ALIASES: Mapping[str, tuple[str, ...]] = {
    "euler": ("k_euler",),
    "euler_a": ("k_euler_a", "k_euler_ancestral"),
    "ddim": ("ddim",),
    "heun": ("k_heun",),
    "lms": ("k_lms",),
    "dpm++_2m": ("k_dpmpp_2m",),
    "dpm++_2m_sde": ("k_dpmpp_2m_sde",),
    "dpm++_sde": ("k_dpmpp_sde",),
    "lcm": ("k_lcm",),
    "tcd": (),
}
"""Other names that the web UI has for them."""

_TYPE = "Schedule type"

FLOW_SCHEDULE = "Simple"
FLOW_SETTINGS: Mapping[str, str] = {_TYPE: FLOW_SCHEDULE}
"""The schedule of models that flow, in Forge, which draws with them: even strides, shifted."""


def schedule_settings(
    sampler: str, schedule: str, steps: int, config: SchedulerConfig
) -> Mapping[str, str]:
    """The web UI's settings for a schedule, for a model with this scheduler_config.json.

    Of evenly spaced schedules the name is the nearest one's. Karras has its ends with it where
    they are not the web UI's, the highest and the lowest sigma of training.
    """
    options = config.for_class(SAMPLERS[sampler].scheduler)
    timesteps = _timesteps(sampler, schedule, steps, config)
    if schedule == "karras" or (schedule == "default" and options.use_karras_sigmas):
        return {_TYPE: "Karras", **_ends(timesteps, training_sigmas(options))}
    even = _evenly_spaced(options.num_train_timesteps, steps)
    return {_TYPE: min(even, key=lambda title: _distance(even[title], timesteps))}


def schedule_title(sampler: str, schedule: str, steps: int, config: SchedulerConfig) -> str:
    """The web UI's name of a schedule. Raises RequestError for steps that it does not have."""
    return schedule_settings(sampler, schedule, steps, config)[_TYPE]


def _timesteps(
    sampler: str, schedule: str, steps: int, config: SchedulerConfig
) -> NDArray[np.float64]:
    """The timestep of each step's first row."""
    table = step_table(sampler, schedule, steps, config)
    _, first = np.unique(table.step, return_index=True)
    return table.timesteps[first].astype(np.float64)


def _evenly_spaced(count: int, steps: int) -> Mapping[str, NDArray[np.float64]]:
    """The web UI's schedules of `count` training timesteps, `[steps]`, falling."""
    strides = np.arange(1, count, max(count // steps, 1), dtype=np.float64)[::-1]
    return {
        "Uniform": np.linspace(count - 1, 0, steps),
        "SGM Uniform": np.linspace(count - 1, 0, steps + 1)[:-1],
        # Where the stride leaves a rest, one step more is taken there.
        "DDIM": strides[-steps:],
    }


def _distance(even: NDArray[np.float64], timesteps: NDArray[np.float64]) -> float:
    # A table may be cut short at its beginning, and strides of one begin a timestep later.
    shared = min(len(even), len(timesteps))
    return float(np.abs(even[-shared:] - timesteps[-shared:]).max())


def _ends(timesteps: NDArray[np.float64], training: NDArray[np.float32]) -> Mapping[str, str]:
    count = len(training)
    logs = np.interp(timesteps[[0, -1]], np.arange(count), np.log(training.astype(np.float64)))
    high, low = np.exp(logs)
    ends = {}
    if timesteps[0] < count - 1:
        ends["Schedule max sigma"] = f"{high:.7g}"
    if timesteps[-1] > 0:
        ends["Schedule min sigma"] = f"{low:.7g}"
    return ends
