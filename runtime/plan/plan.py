"""A request and a model resolved into a plan, in which nothing is optional.

Planning is pure and cheap. The server plans a request to find the user's last errors before the job
is queued; the worker plans the stored request again, with the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.errors import RequestError
from runtime.package.manifest import Manifest
from runtime.package.pack import LoraPack, LoraSet
from runtime.plan.families.family import Family, Prompt
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.tokenizer import PromptTokenizer
from runtime.plan.triggers import with_triggers


@dataclass(frozen=True, slots=True)
class Plan:
    """All inputs of one picture, for the engines of its model."""

    request: GenerateRequest
    prompt: str
    """The request's prompt with the trigger words of its LoRAs: the text that is drawn."""
    loras: LoraSet
    prompts: tuple[Prompt, ...]
    table: StepTable
    mixes: tuple[tuple[float, ...], ...]
    """For each row of the step table, the weights of that row's evaluations."""
    latent_shape: tuple[int, int, int]
    """`(C, h, w)`"""

    @property
    def rows(self) -> int:
        """Number of denoiser calls."""
        return self.table.rows

    @property
    def steps(self) -> int:
        """Number of scheduler steps: the unit of progress."""
        return self.table.steps

    def wants_preview(self, step: int) -> bool:
        """True when the request asks for a preview of this 1-based `step`."""
        every = self.request.preview_every
        return every > 0 and (step % every == 0 or step == self.steps)


def make_plan(
    request: GenerateRequest,
    manifest: Manifest,
    family: Family,
    tokenizers: Mapping[str, PromptTokenizer],
    packs: Sequence[LoraPack] = (),
) -> Plan:
    """The plan of a request; `packs` are the LoRA packs that the model has now.

    Raises RequestError for faults that the request's schema cannot express.
    """
    table = family.table(request, manifest)
    guided = family.mix(request)
    scale = manifest.latents.scale_factor
    loras = _loras(request, packs)
    prompt = with_triggers(request, loras)
    return Plan(
        request=request,
        prompt=prompt,
        loras=loras,
        prompts=family.prompts(replace(request, prompt=prompt), manifest, tokenizers),
        table=table,
        mixes=tuple(
            guided if _guides(request, int(step), table.steps) else (1.0,) for step in table.step
        ),
        latent_shape=(manifest.latents.channels, request.height // scale, request.width // scale),
    )


def _loras(request: GenerateRequest, packs: Sequence[LoraPack]) -> LoraSet:
    """LoRA packs of non-zero weight, in the request's order: a DoRA rescales its predecessors."""
    found = {pack.id: pack for pack in packs}
    for index, choice in enumerate(request.loras):
        if choice.id not in found:
            raise RequestError(f"/loras/{index}/id", f"{choice.id!r} is no LoRA of this model now")
    return tuple((found[choice.id], choice.weight) for choice in request.loras if choice.weight)


def _guides(request: GenerateRequest, step: int, steps: int) -> bool:
    if request.guidance_interval is None:
        return True
    begin, end = request.guidance_interval
    return begin * steps <= step < end * steps
