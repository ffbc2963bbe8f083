"""Options of a model's scheduler_config.json, resolved as each diffusers class resolves them.

Equal to `SomeScheduler.from_config(model_scheduler.config)` in diffusers: a class uses the keys of
the file that its constructor takes, and its own default for the rest. The defaults differ by class.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from runtime.errors import PackageError, named, quoted

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """Every option that our tables can honour; the defaults are EulerDiscreteScheduler's."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: tuple[float, ...] | None = None
    prediction_type: Prediction = "epsilon"
    timestep_spacing: Literal["linspace", "leading", "trailing", "distilled"] = "linspace"
    """`distilled` is no value of a file, but how LCM and TCD space their timesteps."""
    steps_offset: int = 0
    rescale_betas_zero_snr: bool = False
    use_karras_sigmas: bool = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"
    set_alpha_to_one: bool = True
    solver_order: int = 2
    solver_type: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float = -math.inf
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0

    @property
    def most_steps(self) -> int:
        """The most steps of a table: the training timesteps, or those that were distilled."""
        if self.timestep_spacing == "distilled":
            return min(self.original_inference_steps, self.num_train_timesteps)
        return self.num_train_timesteps


@dataclass(frozen=True, slots=True)
class SchedulerClass:
    """A scheduler class of diffusers: its own defaults, and the options that it does not have."""

    defaults: SchedulerOptions = field(default_factory=SchedulerOptions)
    lacks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The options that a model's file gives, checked; hashable and picklable."""

    given: tuple[tuple[str, Any], ...] = ()
    """Names of `SchedulerOptions` with the file's values, sorted by name."""

    @classmethod
    def from_mapping(cls, raw: Mapping[str, object]) -> Self:
        """Read a scheduler_config.json of any scheduler class that SDXL models come with.

        Keys that mean nothing for a table are passed over, and so are those that diffusers lists
        under `_use_default_values`. One exception to equality with diffusers: DDIM clips the
        predicted picture to -1..1 when the file does not mention `clip_sample`; latents must not
        be clipped, so we do not.

        Raises PackageError, naming key and value, for an option that we cannot honour, for a
        value that the option cannot have, and for a key that no class of diffusers 0.42 has.
        """
        defaulted = raw.get("_use_default_values")
        skipped = set(defaulted) if isinstance(defaulted, list | tuple) else set()
        given: dict[str, Any] = {}
        for key, value in raw.items():
            if key.startswith("_") or key in skipped or key in _MEANINGLESS:
                continue
            if key in _READERS:
                if value is not None or key not in _NULLABLE:
                    given[key] = _READERS[key](key, value)
            elif key not in _ONLY:
                raise PackageError(
                    f"scheduler_config.json: {named(key)} = {quoted(value)} is no option that we "
                    "know; remove it, if the model works in diffusers 0.42 without it"
                )
            elif value is not None and value not in _ONLY[key]:
                raise _refusal(key, value, " or ".join(map(repr, _ONLY[key])) or "no such key")
        _check_lengths(given)
        return cls(tuple(sorted(given.items())))

    def for_class(self, scheduler: SchedulerClass) -> SchedulerOptions:
        """The options as `from_config` of that diffusers class resolves them."""
        taken = {key: value for key, value in self.given if key not in scheduler.lacks}
        return replace(scheduler.defaults, **taken)


def _refusal(key: str, value: object, expected: str) -> PackageError:
    return PackageError(
        f"scheduler_config.json: {named(key)} is {quoted(value)}, expected {expected}"
    )


def _check_lengths(given: Mapping[str, Any]) -> None:
    betas = given.get("trained_betas")
    timesteps = given.get("num_train_timesteps", SchedulerOptions().num_train_timesteps)
    if betas is not None and len(betas) != timesteps:
        raise _refusal("trained_betas", f"a list of {len(betas)}", f"{timesteps} betas")


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _refusal(key, value, "true or false")
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise _refusal(key, value, "a number")
    return float(value)


def _beta(key: str, value: object) -> float:
    number = _number(key, value)
    if not 0 < number < 1:
        raise _refusal(key, value, "a number between 0 and 1")
    return number


def _positive(key: str, value: object) -> float:
    number = _number(key, value)
    if not 0 < number < math.inf:
        raise _refusal(key, value, "a number over 0")
    return number


def _integer(low: int, high: int) -> Callable[[str, object], int]:
    def read(key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _refusal(key, value, f"an integer from {low} to {high}")
        return value

    return read


def _choice(*options: str, **synonyms: str) -> Callable[[str, object], str]:
    def read(key: str, value: object) -> str:
        known = {option: option for option in options} | synonyms
        if not isinstance(value, str) or value not in known:
            raise _refusal(key, value, " or ".join(map(repr, options)))
        return known[value]

    return read


def _betas(key: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise _refusal(key, value, "a list of numbers or null")
    return tuple(_beta(f"{key}[{index}]", beta) for index, beta in enumerate(value))


_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "num_train_timesteps": _integer(2, 100_000),
    "beta_start": _beta,
    "beta_end": _beta,
    "beta_schedule": _choice("linear", "scaled_linear", "squaredcos_cap_v2"),
    "trained_betas": _betas,
    "prediction_type": _choice("epsilon", "v_prediction"),
    "timestep_spacing": _choice("linspace", "leading", "trailing"),
    "steps_offset": _integer(0, 1000),
    "rescale_betas_zero_snr": _boolean,
    "use_karras_sigmas": _boolean,
    "sigma_min": _positive,
    "sigma_max": _positive,
    "final_sigmas_type": _choice("zero", "sigma_min"),
    "set_alpha_to_one": _boolean,
    "solver_order": _integer(1, 3),
    # DPMSolverMultistepScheduler takes the solver types of DEIS and UniPC for its own "midpoint".
    "solver_type": _choice("midpoint", "heun", logrho="midpoint", bh1="midpoint", bh2="midpoint"),
    "lower_order_final": _boolean,
    "euler_at_final": _boolean,
    "lambda_min_clipped": _number,
    "original_inference_steps": _integer(1, 100_000),
    "timestep_scaling": _positive,
}

_NULLABLE = frozenset(
    {"trained_betas", "rescale_betas_zero_snr", "use_karras_sigmas", "sigma_min", "sigma_max"}
)

# Options with an effect that a table cannot have, and the values that switch the effect off; null
# does so too. With no value at all, the key itself belongs to models of another kind.
_ONLY: Mapping[str, tuple[object, ...]] = {
    "clip_sample": (False,),
    "thresholding": (False,),
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    "sigma_data": (),
    "sigma_schedule": (),
    "shift": (),
    "base_shift": (),
    "max_shift": (),
    "base_image_seq_len": (),
    "max_image_seq_len": (),
}

# Options of diffusers classes that change nothing in our samplers: of other solvers, of noise that
# we draw ourselves, of effects that `_ONLY` makes sure are off.
_MEANINGLESS = frozenset(
    {
        "algorithm_type",
        "clip_sample_range",
        "corrector_order",
        "disable_corrector",
        "dynamic_thresholding_ratio",
        "flow_shift",
        "noise_sampler_seed",
        "predict_x0",
        "predictor_order",
        "rho",
        "sample_max_value",
        "shift_terminal",
        "skip_prk_steps",
        "solver_p",
        "tau_func",
        "time_shift_type",
    }
)
