"""A request and a model resolved into a plan, in which nothing is optional.

Planning is pure and cheap. The server plans a request to find the user's last errors before the job
is queued; the worker plans the stored request again, with the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.errors import RequestError
from runtime.package.inversion import Inversion, Row
from runtime.package.manifest import Manifest
from runtime.package.pack import LoraPack, LoraSet
from runtime.plan.families.family import Family, Prompt
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.inversions import with_words
from runtime.plan.text.tokenizer import PromptTokenizer
from runtime.plan.text.weighting import parse, plain
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
    def replaces_weights(self) -> bool:
        """True where engines must hold other weights than the package's own."""
        return bool(self.loras) or self.has_inversions

    @property
    def has_inversions(self) -> bool:
        """True where a prompt names a textual inversion."""
        return any(prompt.rows for prompt in self.prompts)

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
    *,
    inversions: Sequence[Inversion] = (),
) -> Plan:
    """The plan of a request; `packs` and `inversions` are those that the model has now. Those of
    the request's LoRAs come before the model's own of the same name.

    Raises RequestError for faults that the request's schema cannot express.
    """
    table = family.table(request, manifest)
    guided = family.mix(request)
    scale = manifest.latents.scale_factor
    loras = _loras(request, packs)
    prompt = with_triggers(request, loras)
    prompted = replace(request, prompt=prompt)
    bundled = [each for pack, _ in loras for each in pack.inversions]
    return Plan(
        request=request,
        prompt=prompt,
        loras=loras,
        prompts=_prompts(prompted, manifest, family, tokenizers, [*bundled, *inversions]),
        table=table,
        mixes=tuple(
            guided if _guides(request, int(step), table.steps) else (1.0,) for step in table.step
        ),
        latent_shape=(manifest.latents.channels, request.height // scale, request.width // scale),
    )


def _prompts(
    request: GenerateRequest,
    manifest: Manifest,
    family: Family,
    tokenizers: Mapping[str, PromptTokenizer],
    inversions: Sequence[Inversion],
) -> tuple[Prompt, ...]:
    """The family's prompts, each with the rows that hold vectors of the words in it."""
    read = parse if request.prompt_weighting else plain
    texts = read(request.prompt), read(request.negative_prompt or "")
    encoders = family.facts(manifest).inversions
    known, rows = with_words(texts, tokenizers, encoders, inversions)
    return tuple(
        replace(prompt, rows=tuple(row for row in rows if _reads(prompt, dict(encoders), row)))
        for prompt in family.prompts(request, manifest, known)
    )


def _reads(prompt: Prompt, tokenizer: Mapping[str, str], row: Row) -> bool:
    return any(row.token in chunk.ids for chunk in prompt.of(tokenizer[row.role]))


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
