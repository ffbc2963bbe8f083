"""The step graph: denoiser, guidance and a row of the step table, in one graph.

One call advances B samples by one row. Guidance is data: R evaluations of the denoiser belong to
the samples that `evaluation_sample` names and are summed with the weights `mix`.
"""

from collections.abc import Sequence

import torch
from torch import nn

from engine_build.package.export.role import Axis, Draw, GraphInput, Sizes
from runtime.package.step_graph import (
    COEFFICIENTS,
    COLUMNS,
    EVALUATION_SAMPLE,
    GUIDANCE_RESCALE,
    HISTORY,
    LATENTS,
    MIX,
    NOISE,
    POSITIVE_EVALUATION,
    REMEMBERED,
    TIMESTEP,
    input_shapes,
    sized,
)


class StepGraph(nn.Module):
    """A denoiser wrapped into the step graph.

    The denoiser takes latents `[R, C, h, w]`, timesteps `[R]` and its conditioning, one row for
    each evaluation, and answers `[R, C, h, w]`.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(  # noqa: PLR0917 - a graph's inputs have an order
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        coefficients: torch.Tensor,
        history: torch.Tensor,
        noise: torch.Tensor,
        evaluation_sample: torch.Tensor,
        mix: torch.Tensor,
        guidance_rescale: torch.Tensor,
        positive_evaluation: torch.Tensor,
        *conditioning: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Advance every sample by its row of the step table.

        The inputs are those of `runtime.package.step_graph`, in its order, then the denoiser's own
        conditioning, `[R, ...]` each; the outputs are the OUTPUTS of that module, in their order.
        """
        c_in, px, po, qx, qo, a, b, c1, c2, c3, n = (
            coefficients[:, column, None, None, None] for column in range(len(COLUMNS))
        )
        scaled = (c_in * latents).index_select(0, evaluation_sample)
        times = timestep.index_select(0, evaluation_sample)
        evaluations = self.denoiser(scaled, times, *conditioning)
        # A sum over a broadcast product: a matrix product would run in TF32 on a GPU.
        output = (mix[:, :, None, None, None] * evaluations[None]).sum(1)
        positive = evaluations.index_select(0, positive_evaluation)
        output = rescale_guidance(output, positive, guidance_rescale)

        predicted = px * latents + po * output
        remembered = qx * latents + qo * output
        advanced = (
            a * latents
            + b * remembered
            + c1 * history[:, 0]
            + c2 * history[:, 1]
            + c3 * history[:, 2]
            + n * noise
        )
        next_history = torch.cat([remembered[:, None], history[:, : REMEMBERED - 1]], dim=1)
        return advanced, next_history, predicted


def rescale_guidance(
    guided: torch.Tensor, positive: torch.Tensor, strength: torch.Tensor
) -> torch.Tensor:
    """Pull the guided output `[B, C, h, w]` back to the positive one's standard deviation.

    Section 3.4 of https://arxiv.org/abs/2305.08891, as diffusers' `rescale_noise_cfg` does it, for
    each sample with a `strength [B]` of its own. 0 leaves the sample as it is, bit for bit.
    """
    target = positive.std(dim=(1, 2, 3), keepdim=True)
    found = guided.std(dim=(1, 2, 3), keepdim=True)
    ratio = target / torch.where(found > 0, found, torch.ones_like(found))
    strength = strength[:, None, None, None]
    factor = torch.where(found > 0, strength * ratio + (1 - strength), torch.ones_like(found))
    return torch.where(strength > 0, factor * guided, guided)


def step_inputs(
    *,
    channels: int,
    batch: Axis,
    evaluations: Axis,
    height: Axis,
    width: Axis,
    conditioning: Sequence[GraphInput],
) -> tuple[GraphInput, ...]:
    """The step graph's inputs, with values in which guided and unguided samples are mixed."""
    axes = {axis.name: axis for axis in (batch, evaluations, height, width)}
    shapes = input_shapes(channels)

    def normal(name: str) -> Draw:
        def draw(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
            return torch.randn(sized(shapes[name], sizes), generator=generator)

        return draw

    def timestep(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(sizes[batch.name], generator=generator) * 999

    def evaluation_sample(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
        return torch.arange(sizes[evaluations.name]) % sizes[batch.name]

    def mix(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        owner = evaluation_sample(sizes, generator)
        weights = torch.zeros(sizes[batch.name], sizes[evaluations.name])
        for sample in range(sizes[batch.name]):
            own = (owner == sample).nonzero()[:, 0]
            scale = 1 + 7 * torch.rand(1, generator=generator)
            weights[sample, own] = (1 - scale) / max(len(own) - 1, 1)
            weights[sample, own[0]] = scale if len(own) > 1 else 1.0
        return weights

    def guidance_rescale(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        strength = torch.rand(sizes[batch.name], generator=generator)
        strength[0] = 0  # off for one, on for the others
        return strength

    def positive_evaluation(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
        return torch.arange(sizes[batch.name])

    draws: dict[str, Draw] = {
        **{name: normal(name) for name in (LATENTS, COEFFICIENTS, HISTORY, NOISE)},
        TIMESTEP: timestep,
        EVALUATION_SAMPLE: evaluation_sample,
        MIX: mix,
        GUIDANCE_RESCALE: guidance_rescale,
        POSITIVE_EVALUATION: positive_evaluation,
    }
    return (
        *(
            GraphInput(
                name,
                {at: axes[each] for at, each in enumerate(shape) if isinstance(each, str)},
                draws[name],
            )
            for name, shape in shapes.items()
        ),
        *conditioning,
    )
