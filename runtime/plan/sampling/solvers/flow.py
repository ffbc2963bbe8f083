"""Euler steps of a flow: latents `(1 - sigma) * x0 + sigma * noise`, whose velocity
`noise - x0` the denoiser gives (Lipman et al. 2022, arXiv 2210.02747).

FlowMatchEulerDiscreteScheduler of diffusers; its sigmas are shifted towards the noise by a fixed
amount or by one that the family derives from the picture's size. It is no entry of `SAMPLERS`,
which belong to models trained on betas: families that flow call it under the name of euler.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from runtime.errors import PackageError, named, quoted
from runtime.package.step_graph import Coefficients
from runtime.plan.sampling.table import StepTable, TableRow


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """A FlowMatchEulerDiscreteScheduler's scheduler_config.json."""

    num_train_timesteps: int = 1000
    shift: float = 1.0
    use_dynamic_shifting: bool = False
    time_shift_type: Literal["exponential", "linear"] = "exponential"
    shift_terminal: float | None = None
    base_shift: float = 0.5
    """One of four points from which a family derives the dynamic shift."""
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096

    @classmethod
    def from_mapping(cls, raw: Mapping[str, object]) -> Self:
        """Read the file. Raises PackageError, naming key and value, for what we cannot honour."""
        known = {option.name: option.default for option in fields(cls)}
        given: dict[str, Any] = {}
        for key, value in raw.items():
            if key in known:
                given[key] = _checked(key, value, known[key])
            elif key in _MUST_BE_OFF and value:
                raise PackageError(
                    f"scheduler_config.json: {named(key)} is {quoted(value)}, expected false"
                )
            elif key not in _MUST_BE_OFF and not key.startswith("_"):
                raise PackageError(
                    f"scheduler_config.json: {named(key)} = {quoted(value)} is no option of "
                    "FlowMatchEulerDiscreteScheduler that we know; remove it"
                )
        return cls(**given)


_MUST_BE_OFF = frozenset(
    {
        "invert_sigmas",
        "stochastic_sampling",
        "use_beta_sigmas",
        "use_exponential_sigmas",
        "use_karras_sigmas",
    }
)


def _checked(key: str, value: object, default: object) -> object:
    if key == "time_shift_type":
        expected, fits = "'exponential' or 'linear'", value in ("exponential", "linear")
    elif isinstance(default, bool):
        expected, fits = "true or false", isinstance(value, bool)
    elif default is None:
        expected, fits = "null or a number from 0 to 1", _number(value) and 0 <= value < 1
        # diffusers takes 0 for none, too.
        value, fits = value or None, fits or value is None
    elif isinstance(default, int):
        expected, fits = "an integer over 0", _number(value) and value >= 1 and value % 1 == 0
    else:
        expected, fits = "a number over 0", _number(value) and value > 0
    if not fits:
        raise PackageError(
            f"scheduler_config.json: {named(key)} is {quoted(value)}, expected {expected}"
        )
    return value


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def flow_step_table(
    steps: int,
    config: FlowConfig,
    *,
    mu: float | None = None,
    sigmas: Sequence[float] | NDArray[np.float64] | None = None,
) -> StepTable:
    """One row a step, no noise after the first; the denoiser is told `sigma * T`.

    `mu` is the dynamic shift, which `use_dynamic_shifting` requires; it is not used otherwise, as
    in diffusers. `sigmas` are a pipeline's own, `[N]`, falling, before they are shifted.
    """
    levels = np.append(_sigmas(steps, config, mu, sigmas), 0.0)
    rows = []
    for step in range(steps):
        sigma, following = float(levels[step]), float(levels[step + 1])
        row = Coefficients(1.0, 1.0, -sigma, 0.0, 1.0, a=1.0, b=following - sigma)
        rows.append(TableRow(step, sigma * config.num_train_timesteps, row))
    return StepTable.of(rows, initial_scale=1.0)


def _sigmas(
    steps: int,
    config: FlowConfig,
    mu: float | None,
    sigmas: Sequence[float] | NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    if sigmas is None:
        high, low = 1.0, 1 / config.num_train_timesteps
        if not config.use_dynamic_shifting:
            # diffusers shifts the ends of its range, and then all of it once more.
            high, low = _shifted(np.array([high, low]), config.shift).tolist()
        levels = np.linspace(high, low, steps)
    elif len(sigmas) == steps:
        levels = np.array(sigmas, dtype=np.float64)
    else:
        raise ValueError(f"{len(sigmas)} sigmas for {steps} steps")
    if not config.use_dynamic_shifting:
        levels = _shifted(levels, config.shift)
    elif mu is None:
        raise ValueError("use_dynamic_shifting needs mu")
    else:
        exponential = config.time_shift_type == "exponential"
        levels = _shifted(levels, math.exp(mu) if exponential else mu)
    if config.shift_terminal is not None and levels[-1] < 1:
        # Stretched so that the last sigma is this; a single step, at 1, has nothing to stretch.
        levels = 1 - (1 - levels) * (1 - config.shift_terminal) / (1 - levels[-1])
    return levels


def _shifted(sigmas: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    """Esser et al. 2024 (arXiv 2403.03206), eq. 23; `shift / (shift + 1 / sigma - 1)` likewise."""
    return np.asarray(shift * sigmas / (1 + (shift - 1) * sigmas), dtype=np.float64)
