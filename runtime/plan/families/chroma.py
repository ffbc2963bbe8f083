"""Chroma: a pruned FLUX.1 schnell with real guidance; its flash variant has guidance baked in.

T5 alone reads the prompt. As `ChromaPipeline` of diffusers does it, with one difference: a prompt
that is too long is refused, not cut off. Weights, where a request asks for them, act as on SDXL.
"""

from collections.abc import Mapping

import numpy as np

from runtime.backends.protocol import Engine
from runtime.package.manifest import Manifest
from runtime.plan.families.family import Conditioning, Facts, Guidance, Prompt
from runtime.plan.families.flow import packed_step_table
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.chunks import whole
from runtime.plan.text.emphasis import emphasise
from runtime.plan.text.tokenizer import PromptTokenizer
from runtime.plan.text.weighting import in_one_piece


class Chroma:
    """The family `chroma`."""

    name = "chroma"
    text_roles = ("text_encoder",)

    def facts(self, manifest: Manifest) -> Facts:
        """Guidance and a negative prompt, except for weights with baked-in guidance."""
        baked_in = bool(manifest.family_options["guidance_baked_in"])
        return Facts(
            title="Chroma flash" if baked_in else "Chroma",
            samplers=("euler",),
            schedules=("default",),
            guidance=Guidance.NONE if baked_in else Guidance.CLASSIFIER_FREE,
            negative_prompt=not baked_in,
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
        """The prompt, and the negative prompt (empty by default) when guidance acts.

        Raises RequestError for a prompt that is too long for T5.
        """
        texts = (("/prompt", request.prompt), ("/negative_prompt", request.negative_prompt or ""))
        prompts = []
        for pointer, text in texts[: len(self.mix(request))]:
            spans = in_one_piece(text, weighted=request.prompt_weighting)
            read = whole(spans, tokenizers["tokenizer"], pointer)
            prompts.append(Prompt((("tokenizer", (read,)),)))
        return tuple(prompts)

    def mix(self, request: GenerateRequest) -> tuple[float, ...]:
        """Classifier-free guidance, `negative + scale * (positive - negative)`; none at scale 1."""
        scale = request.cfg_scale
        if scale is None or scale <= 1:
            return (1.0,)
        return scale, 1 - scale

    def table(self, request: GenerateRequest, manifest: Manifest) -> StepTable:
        """Euler's steps, shifted by the picture's size where the checkpoint says so."""
        return packed_step_table(request, manifest)

    def encode(self, prompt: Prompt, engines: Mapping[str, Engine]) -> Conditioning:
        """Hidden states of T5 `[1, L, D]`, and the denoiser's attention mask for them `[1, L]`.

        T5 sees no padding. The denoiser sees one padding token behind the prompt's end, as in its
        training.
        """
        (read,) = prompt.of("tokenizer")
        position, length = np.arange(len(read.ids)), len(read.ids) - read.filling
        answer = engines["text_encoder"].run(
            {
                "input_ids": np.array([read.ids], np.int64),
                "attention_mask": (position < length).astype(np.int64)[np.newaxis],
            }
        )
        weights = np.array([read.weights], np.float32)
        return {
            "encoder_hidden_states": emphasise(answer["hidden_states"], weights),
            "text_mask": (position <= length).astype(np.float32)[np.newaxis],
        }

    def settings(self, request: GenerateRequest) -> Conditioning:  # noqa: ARG002
        """Empty: all conditioning comes from text."""
        return {}
