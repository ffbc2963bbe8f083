"""Facts shared by the flow-matching families with packed latents (Flux, Chroma, Z-Image).

Their denoiser reads a picture as a sequence of tokens, one for each patch of latents, and their
pipelines move the sigmas towards the noise with the length of that sequence.
"""

import numpy as np

from runtime.package.manifest import Manifest
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.solvers.flow import FlowConfig, flow_step_table
from runtime.plan.sampling.table import StepTable

PATCH = 2
"""Side of a patch, in latents."""


def packed_step_table(request: GenerateRequest, manifest: Manifest) -> StepTable:
    """Euler's steps over the sigmas that the pipelines choose: from 1 to 1 / steps, evenly."""
    config = FlowConfig.from_mapping(manifest.scheduler)
    side = PATCH * manifest.latents.scale_factor
    tokens = (request.height // side) * (request.width // side)
    sigmas = np.linspace(1.0, 1 / request.steps, request.steps)
    return flow_step_table(request.steps, config, mu=dynamic_shift(tokens, config), sigmas=sigmas)


def dynamic_shift(tokens: int, config: FlowConfig) -> float:
    """Shift `mu` for a picture of this many tokens, linear between the two points of the config.

    `calculate_shift` of diffusers' pipelines.
    """
    rise = config.max_shift - config.base_shift
    run = config.max_image_seq_len - config.base_image_seq_len
    return config.base_shift + (tokens - config.base_image_seq_len) * rise / run
