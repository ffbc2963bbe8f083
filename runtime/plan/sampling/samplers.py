"""The samplers of models trained on betas, by the names that users know them by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from runtime.errors import RequestError
from runtime.plan.sampling.scheduler_config import SchedulerClass, SchedulerConfig, SchedulerOptions
from runtime.plan.sampling.solvers.consistency import CONSISTENCY, lcm, tcd
from runtime.plan.sampling.solvers.ddim import DDIM, ddim
from runtime.plan.sampling.solvers.dpm_multistep import DPM_MULTISTEP, dpmpp_2m, dpmpp_2m_sde
from runtime.plan.sampling.solvers.dpm_sde import DPM_SDE, dpmpp_sde
from runtime.plan.sampling.solvers.euler import EULER, EULER_ANCESTRAL, euler, euler_ancestral
from runtime.plan.sampling.solvers.heun import HEUN, heun
from runtime.plan.sampling.solvers.lms import LMS, lms
from runtime.plan.sampling.table import StepTable


@dataclass(frozen=True, slots=True)
class Sampler:
    """A sampler and the diffusers class that it equals."""

    table: Callable[[SchedulerOptions, int], StepTable]
    scheduler: SchedulerClass
    evaluations_per_step: int = 1
    """Denoiser calls of a step; the last step always takes one."""

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules that the diffusers class has; `default` is what the model's file says."""
        if "use_karras_sigmas" in self.scheduler.lacks:
            return tuple(name for name in SCHEDULES if name != "karras")
        return tuple(SCHEDULES)


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "euler": Sampler(euler, EULER),
        "euler_a": Sampler(euler_ancestral, EULER_ANCESTRAL),
        "ddim": Sampler(ddim, DDIM),
        "heun": Sampler(heun, HEUN, evaluations_per_step=2),
        "lms": Sampler(lms, LMS),
        "dpm++_2m": Sampler(dpmpp_2m, DPM_MULTISTEP),
        "dpm++_2m_sde": Sampler(dpmpp_2m_sde, DPM_MULTISTEP),
        "dpm++_sde": Sampler(dpmpp_sde, DPM_SDE, evaluations_per_step=2),
        "lcm": Sampler(lcm, CONSISTENCY),
        "tcd": Sampler(tcd, CONSISTENCY),
    }
)

SCHEDULES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "karras": {"use_karras_sigmas": True},
        "sgm_uniform": {"timestep_spacing": "trailing", "use_karras_sigmas": False},
    }
)
"""Schedules of all samplers together, each with the options that it overrides. `sgm_uniform` is
what few-step models are made for: from the last training timestep down in even strides, not to 0.
"""


def step_table(sampler: str, schedule: str, steps: int, scheduler: SchedulerConfig) -> StepTable:
    """The step table of a request, for a model with this scheduler_config.json.

    Any number of steps up to the model's training timesteps gives a finite table; LCM and TCD have
    by default no more than the model was distilled with. The table has as many steps as asked, but
    where the file's `lambda_min_clipped` cuts trailing spacing short.

    Raises RequestError for a sampler or schedule that there is not and for a number of steps out
    of range, PackageError for betas that make no noise schedule.
    """
    if sampler not in SAMPLERS:
        raise RequestError("/sampler", f"{sampler!r} is no sampler; expected {_any_of(SAMPLERS)}")
    chosen = SAMPLERS[sampler]
    if schedule not in chosen.schedules:
        raise RequestError(
            "/schedule",
            f"sampler {sampler!r} has no schedule {schedule!r}; "
            f"expected {_any_of(chosen.schedules)}",
        )
    options = replace(scheduler.for_class(chosen.scheduler), **SCHEDULES[schedule])
    if not 1 <= steps <= options.most_steps:
        more = ""
        if options.timestep_spacing == "distilled":
            more = f", with which {sampler!r} was distilled; schedule 'sgm_uniform' takes more"
        raise RequestError("/steps", f"{steps} steps; expected 1 to {options.most_steps}{more}")
    return _table(sampler, options, steps)


@lru_cache(maxsize=64)
def _table(sampler: str, options: SchedulerOptions, steps: int) -> StepTable:
    """A table is read-only and follows from these three; most requests ask for one of a few."""
    return SAMPLERS[sampler].table(options, steps)


def _any_of(names: Mapping[str, object] | tuple[str, ...]) -> str:
    return " or ".join(map(repr, names))
