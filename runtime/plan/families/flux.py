"""FLUX.1: dev, which is told its guidance, and schnell, which has none.

T5 reads the prompt, and CLIP's pooled text conditions the timestep. As `FluxPipeline` of diffusers
does it, with one difference: a prompt that is too long for T5 is refused, not cut off. CLIP, which
reads far less, gets the beginning of a long prompt, as it does in diffusers: of its answer only the
pooled text is used, and T5 reads the whole prompt. Weights, where a request asks for them, act on
T5's hidden states as on SDXL's; pooled text is never weighted.
"""

from collections.abc import Mapping

import numpy as np

from runtime.backends.protocol import Engine
from runtime.package.manifest import Manifest
from runtime.plan.families.family import Conditioning, Facts, Guidance, Prompt
from runtime.plan.families.flow import packed_step_table
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.chunks import beginning, whole
from runtime.plan.text.emphasis import emphasise
from runtime.plan.text.tokenizer import PromptTokenizer
from runtime.plan.text.weighting import in_one_piece, text_of


class Flux:
    """The family `flux`."""

    name = "flux"
    text_roles = ("text_encoder", "text_encoder_2")

    def facts(self, manifest: Manifest) -> Facts:
        """Dev embeds a guidance scale that it was distilled with; schnell takes none."""
        told = bool(manifest.family_options["guidance_embeds"])
        return Facts(
            title="FLUX.1 dev" if told else "FLUX.1 schnell",
            samplers=("euler",),
            schedules=("default",),
            guidance=Guidance.DISTILLED if told else Guidance.NONE,
            negative_prompt=False,
            loras=False,
            clip_skip=False,
            weighted_by_default=False,
            flows=True,
        )

    def prompts(
        self,
        request: GenerateRequest,
        manifest: Manifest,  # noqa: ARG002 - the same for every checkpoint
        tokenizers: Mapping[str, PromptTokenizer],
    ) -> tuple[Prompt, ...]:
        """One evaluation. Raises RequestError for a prompt that is too long for T5."""
        spans = in_one_piece(request.prompt, weighted=request.prompt_weighting)
        pooled = beginning(text_of(spans), tokenizers["tokenizer"])
        read = whole(spans, tokenizers["tokenizer_2"], "/prompt")
        return (Prompt((("tokenizer", (pooled,)), ("tokenizer_2", (read,)))),)

    def mix(self, request: GenerateRequest) -> tuple[float, ...]:  # noqa: ARG002
        """One evaluation of weight 1."""
        return (1.0,)

    def table(self, request: GenerateRequest, manifest: Manifest) -> StepTable:
        """Euler's steps, shifted by the picture's size where the checkpoint says so."""
        return packed_step_table(request, manifest)

    def encode(self, prompt: Prompt, engines: Mapping[str, Engine]) -> Conditioning:
        """Every token's hidden state by T5, its padding included, and CLIP's pooled text."""
        (pooled,), (read,) = prompt.of("tokenizer"), prompt.of("tokenizer_2")
        # Both are under way before the first is waited for.
        clip = engines["text_encoder"].start({"input_ids": np.array([pooled.ids], np.int64)})
        t5 = engines["text_encoder_2"].start({"input_ids": np.array([read.ids], np.int64)})
        pooled_text = clip()["pooled_text"]
        weights = np.array([read.weights], np.float32)
        return {
            "encoder_hidden_states": emphasise(t5()["hidden_states"], weights),
            "pooled_projections": pooled_text,
        }

    def settings(self, request: GenerateRequest) -> Conditioning:
        """The guidance scale `[1]`, where the checkpoint is told one."""
        if request.cfg_scale is None:
            return {}
        return {"guidance": np.array([request.cfg_scale], np.float32)}
