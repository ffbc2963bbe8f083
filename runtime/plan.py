"""From a request and a model to a plan: nothing in it is optional any more.

Pure and cheap: the API plans a request to find the user's last errors before it is queued, and
the worker plans it again from the stored request, with the same result.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.families.family import Family, Prompt
from runtime.manifest import Manifest
from runtime.request import GenerateRequest
from runtime.sampling.table import StepTable
from runtime.text.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to draw one picture with the engines of its model."""

    request: GenerateRequest
    prompts: tuple[Prompt, ...]
    table: StepTable
    mixes: tuple[tuple[float, ...], ...]
    """For each row of the table, the weights of the evaluations that it calls."""
    latent_shape: tuple[int, int, int]
    """`(C, h, w)`"""

    @property
    def rows(self) -> int:
        """Calls of the denoiser."""
        return self.table.rows

    @property
    def steps(self) -> int:
        """Steps as the user counts them: what progress is reported in."""
        return self.table.steps

    def wants_preview(self, step: int) -> bool:
        """Whether the 1-based `step` is to be shown."""
        every = self.request.preview_every
        return every > 0 and (step % every == 0 or step == self.steps)


def make_plan(
    request: GenerateRequest,
    manifest: Manifest,
    family: Family,
    tokenizers: Mapping[str, PromptTokenizer],
) -> Plan:
    """Resolve a request. Raises RequestError for what its schema could not rule out."""
    table = family.table(request, manifest)
    guided = family.mix(request)
    scale = manifest.latents.scale_factor
    return Plan(
        request=request,
        prompts=family.prompts(request, manifest, tokenizers),
        table=table,
        mixes=tuple(
            guided if _guides(request, int(step), table.steps) else (1.0,) for step in table.step
        ),
        latent_shape=(manifest.latents.channels, request.height // scale, request.width // scale),
    )


def _guides(request: GenerateRequest, step: int, steps: int) -> bool:
    if request.guidance_interval is None:
        return True
    begin, end = request.guidance_interval
    return begin * steps <= step < end * steps
