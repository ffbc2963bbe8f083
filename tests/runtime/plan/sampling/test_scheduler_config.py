"""A model's scheduler_config.json as it is read, and as each diffusers class resolves it."""

import inspect
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import diffusers
import pytest
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import PackageError
from runtime.plan.sampling.samplers import SAMPLERS
from runtime.plan.sampling.scheduler_config import SchedulerConfig, SchedulerOptions
from tests.runtime.plan.sampling.trajectories import CONSISTENCY, scheduler_of

# stabilityai/stable-diffusion-xl-base-1.0, as it was published.
SDXL_BASE = """{
  "_class_name": "EulerDiscreteScheduler",
  "_diffusers_version": "0.19.0.dev0",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "interpolation_type": "linear",
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "sample_max_value": 1.0,
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "timestep_spacing": "leading",
  "trained_betas": null,
  "use_karras_sigmas": false
}"""


def options(sampler: str, raw: Mapping[str, object]) -> SchedulerOptions:
    return SchedulerConfig.from_mapping(raw).for_class(SAMPLERS[sampler].scheduler)


def test_the_file_of_sdxl() -> None:
    read = options("euler", json.loads(SDXL_BASE))
    assert read == SchedulerOptions(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def test_a_config_can_be_a_key_and_cross_processes() -> None:
    config = SchedulerConfig.from_mapping(json.loads(SDXL_BASE))
    shuffled = dict(reversed(json.loads(SDXL_BASE).items()))
    assert {config: 1}[SchedulerConfig.from_mapping(shuffled)] == 1
    assert pickle.loads(pickle.dumps(config)) == config


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"clip_sample": True}, "clip_sample is True, expected False"),
    ({"thresholding": True}, "thresholding is True, expected False"),
    ({"use_exponential_sigmas": True}, "use_exponential_sigmas is True, expected False"),
    ({"use_beta_sigmas": True}, "use_beta_sigmas is True"),
    ({"use_lu_lambdas": True}, "use_lu_lambdas is True"),
    ({"use_flow_sigmas": True}, "use_flow_sigmas is True"),
    ({"use_dynamic_shifting": True}, "use_dynamic_shifting is True"),
    ({"interpolation_type": "log_linear"}, "interpolation_type is 'log_linear', expected 'linear'"),
    ({"timestep_type": "continuous"}, "timestep_type is 'continuous', expected 'discrete'"),
    ({"variance_type": "learned_range"}, "variance_type is 'learned_range', expected 'fixed_"),
    ({"sigma_data": 0.5}, "sigma_data is 0.5, expected no such key"),
    ({"sigma_schedule": "karras"}, "sigma_schedule is 'karras', expected no such key"),
    ({"shift": 3.0}, "shift is 3.0, expected no such key"),
    ({"prediction_type": "sample"}, "prediction_type is 'sample', expected 'epsilon' or"),
    ({"prediction_type": "flow_prediction"}, "prediction_type is 'flow_prediction'"),
    ({"prediction_type": None}, "prediction_type is None"),
    ({"beta_schedule": "exp"}, "beta_schedule is 'exp', expected 'linear' or 'scaled_linear' or"),
    ({"beta_schedule": ["linear"]}, "beta_schedule is ['linear']"),
    ({"timestep_spacing": "even"}, "timestep_spacing is 'even', expected 'linspace' or"),
    ({"final_sigmas_type": "half"}, "final_sigmas_type is 'half', expected 'zero' or 'sigma_min'"),
    ({"solver_type": "rk4"}, "solver_type is 'rk4', expected 'midpoint' or 'heun'"),
    ({"solver_order": 4}, "solver_order is 4, expected an integer from 1 to 3"),
    ({"solver_order": True}, "solver_order is True"),
    ({"num_train_timesteps": 1}, "num_train_timesteps is 1, expected an integer from 2"),
    ({"num_train_timesteps": 1000.0}, "num_train_timesteps is 1000.0"),
    ({"steps_offset": -1}, "steps_offset is -1, expected an integer from 0"),
    ({"beta_start": "0.1"}, "beta_start is '0.1', expected a number"),
    ({"beta_start": 0}, "beta_start is 0, expected a number between 0 and 1"),
    ({"beta_end": 2.0}, "beta_end is 2.0, expected a number between 0 and 1"),
    ({"beta_end": math.nan}, "beta_end is nan, expected a number"),
    ({"beta_end": None}, "beta_end is None, expected a number"),
    ({"trained_betas": [0.1] * 5}, "trained_betas is 'a list of 5', expected 1000 betas"),
    ({"trained_betas": 0.1}, "trained_betas is 0.1, expected a list of numbers or null"),
    ({"trained_betas": [0.1, 1.5]}, "trained_betas[1] is 1.5, expected a number between"),
    ({"sigma_min": -1.0}, "sigma_min is -1.0, expected a number over 0"),
    ({"sigma_max": math.inf}, "sigma_max is inf, expected a number over 0"),
    ({"lambda_min_clipped": "-inf"}, "lambda_min_clipped is '-inf', expected a number"),
    ({"use_karras_sigmas": "yes"}, "use_karras_sigmas is 'yes', expected true or false"),
    ({"rescale_betas_zero_snr": 1}, "rescale_betas_zero_snr is 1, expected true or false"),
    ({"original_inference_steps": 0}, "original_inference_steps is 0, expected an integer from 1"),
    ({"timestep_scaling": 0}, "timestep_scaling is 0, expected a number over 0"),
    ({"set_alpha_to_one": None}, "set_alpha_to_one is None, expected true or false"),
    ({"beta_start": "9" * 5_000}, f"beta_start is '{'9' * 76}..., expected a number"),
    ({"9" * 5_000: 1}, f"'{'9' * 76}... = 1 is no option"),
    ({"a\nb": "c\nd"}, r"'a\nb' = 'c\nd' is no option"),
    ({"use_warp_drive": 9}, "use_warp_drive = 9 is no option that we know; remove it"),
]


@pytest.mark.parametrize(("raw", "message"), REFUSED, ids=[str(raw)[:40] for raw, _ in REFUSED])
def test_what_we_cannot_honour_is_refused_by_name(raw: dict[str, object], message: str) -> None:
    with pytest.raises(PackageError) as refusal:
        SchedulerConfig.from_mapping(raw)
    assert str(refusal.value).startswith(f"scheduler_config.json: {message}")


@pytest.mark.parametrize(
    "raw",
    [
        {"clip_sample": False, "thresholding": None, "variance_type": "fixed_small"},
        {"use_karras_sigmas": None, "trained_betas": None, "sigma_min": None},
        {"_private": object(), "_class_name": "PNDMScheduler"},
        {"algorithm_type": "dpmsolver", "noise_sampler_seed": 3, "tau_func": None},
        {"clip_sample": True, "_use_default_values": ["clip_sample"]},
    ],
    ids=["not used", "empty", "private", "of other solvers", "left out"],
)
def test_what_means_nothing_for_a_table_is_passed_over(raw: dict[str, object]) -> None:
    assert SchedulerConfig.from_mapping(raw) == SchedulerConfig()


def test_solver_types_of_other_classes_are_the_midpoint() -> None:
    for name in ("logrho", "bh1", "bh2"):
        assert options("dpm++_2m", {"solver_type": name}).solver_type == "midpoint"


OPTION_NAMES = [field.name for field in fields(SchedulerOptions)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(max_examples=30)
@given(
    raw=st.fixed_dictionaries(
        {},
        optional={
            "num_train_timesteps": st.sampled_from([50, 1000]),
            "beta_start": st.floats(1e-4, 1e-3),
            "beta_end": st.floats(0.01, 0.03),
            "beta_schedule": st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"]),
            "prediction_type": st.sampled_from(["epsilon", "v_prediction"]),
            "timestep_spacing": st.sampled_from(["linspace", "leading", "trailing"]),
            "steps_offset": st.integers(0, 3),
            "rescale_betas_zero_snr": st.booleans(),
            "use_karras_sigmas": st.booleans(),
            "sigma_min": st.floats(0.01, 0.1) | st.none(),
            "sigma_max": st.floats(10, 20) | st.none(),
            "final_sigmas_type": st.sampled_from(["zero", "sigma_min"]),
            "set_alpha_to_one": st.booleans(),
            "solver_order": st.integers(1, 3),
            "solver_type": st.sampled_from(["midpoint", "heun"]),
            "lower_order_final": st.booleans(),
            "euler_at_final": st.booleans(),
            "lambda_min_clipped": st.just(-math.inf) | st.floats(-6, -4),
            "original_inference_steps": st.integers(1, 50),
            "timestep_scaling": st.floats(0.1, 20),
        },
    )
)
def test_options_are_resolved_as_from_config_does(sampler: str, raw: dict[str, Any]) -> None:
    """Of every option that a class takes: the file's value, or else the class's own default."""
    scheduler = scheduler_of(sampler, raw)
    resolved = options(sampler, raw)
    taken = inspect.signature(type(scheduler).__init__).parameters
    for name in OPTION_NAMES:
        # LCM and TCD have the option and never read it.
        if name in taken and (name != "timestep_spacing" or sampler not in CONSISTENCY):
            assert getattr(resolved, name) == scheduler.config[name], name


def test_every_option_of_every_compatible_class_is_known() -> None:
    """Whatever class a model comes with, no key of its file is taken for a mistake."""
    names = [
        scheduler.name for scheduler in KarrasDiffusionSchedulers if "EDM" not in scheduler.name
    ]
    names += ["LCMScheduler", "TCDScheduler", "DDPMScheduler", "SASolverScheduler"]
    for name in names:
        scheduler = getattr(diffusers, name)
        parameters = inspect.signature(scheduler.__init__).parameters
        defaults = {
            key: parameter.default
            for key, parameter in parameters.items()
            if key not in ("self", "kwargs", "clip_sample")
        }
        SchedulerConfig.from_mapping({"_class_name": name, **defaults})


@pytest.mark.parametrize(
    "name",
    ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"],
)
def test_files_of_other_kinds_of_model_are_refused(name: str) -> None:
    scheduler = getattr(diffusers, name)()
    with pytest.raises(PackageError, match="expected no such key"):
        SchedulerConfig.from_mapping(json.loads(scheduler.to_json_string()))
