"""Z-Image Turbo: a flow transformer that reads the hidden states of Qwen3.

As `ZImagePipeline` of diffusers does it with `guidance_scale=0`, which is how the distilled model
is meant to be used. Weights, where a request asks for them, act on the caption as on SDXL; the chat
template's words around it keep theirs of 1. They can do little: the transformer normalises each
token of the caption before it reads it, and a positive factor does not survive that.
"""

from collections.abc import Mapping

import numpy as np

from runtime.backends.protocol import Engine
from runtime.errors import RequestError
from runtime.package.manifest import Manifest
from runtime.plan.families.family import Conditioning, Facts, Guidance, Prompt
from runtime.plan.families.flow import packed_step_table
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.chunks import unframed
from runtime.plan.text.emphasis import emphasise
from runtime.plan.text.tokenizer import PromptTokenizer
from runtime.plan.text.weighting import Span, in_one_piece

CAPTION_MULTIPLE = 32
"""A caption is padded to a multiple of this many tokens, as the transformer wants it."""


class ZImage:
    """The family `zimage`."""

    name = "zimage"
    text_roles = ("text_encoder",)

    def facts(self, manifest: Manifest) -> Facts:  # noqa: ARG002 - the same for every checkpoint
        """One evaluation a step, of the prompt as it was written."""
        return Facts(
            title="Z-Image Turbo",
            samplers=("euler",),
            schedules=("default",),
            guidance=Guidance.NONE,
            negative_prompt=False,
            loras=False,
            clip_skip=False,
            weighted_by_default=False,
            flows=True,
        )

    def prompts(
        self,
        request: GenerateRequest,
        manifest: Manifest,
        tokenizers: Mapping[str, PromptTokenizer],
    ) -> tuple[Prompt, ...]:
        """The prompt inside the chat template, at its own length.

        The pipeline fills it up to the longest length and drops the filling again: a causal
        encoder's tokens never see what comes after them. Raises RequestError for a caption that
        the pipeline would cut off.
        """
        before, after = manifest.family_options["chat_frame"]
        tokenizer = tokenizers["tokenizer"]
        spans = in_one_piece(request.prompt, weighted=request.prompt_weighting)
        read = unframed((Span(before, 1.0), *spans, Span(after, 1.0)), tokenizer)
        length, longest = len(read.ids), tokenizer.spec.max_length
        if length > longest:
            frame = len(tokenizer.ids(before + after))
            raise RequestError(
                "/prompt",
                f"{length} tokens, {frame} of them the frame that the model puts around it; "
                f"expected at most {longest}: shorten it by {length - longest} tokens",
            )
        return (Prompt((("tokenizer", (read,)),)),)

    def mix(self, request: GenerateRequest) -> tuple[float, ...]:  # noqa: ARG002 - never guided
        """One evaluation: guidance is distilled into the weights."""
        return (1.0,)

    def table(self, request: GenerateRequest, manifest: Manifest) -> StepTable:
        """Euler's steps from 1 to 1 / steps, shifted as the checkpoint says."""
        return packed_step_table(request, manifest)

    def encode(self, prompt: Prompt, engines: Mapping[str, Engine]) -> Conditioning:
        """Hidden states of the caption `[1, S, D]`, padded with zeros, and its length `[1]`.

        The encoder reads the padded caption: on a GPU a new length costs more than the padding.
        The padding token does not matter, since attention is causal.
        """
        (chunk,) = prompt.of("tokenizer")
        length = len(chunk.ids)
        filling = -length % CAPTION_MULTIPLE
        ids = np.pad(np.array([chunk.ids], np.int64), ((0, 0), (0, filling)), mode="edge")
        outputs = engines["text_encoder"].run({"input_ids": ids})
        weights = np.array([chunk.weights], np.float32)
        caption = emphasise(outputs["hidden_states"][:, :length], weights)
        return {
            "caption": np.pad(caption, ((0, 0), (0, filling), (0, 0))),
            "caption_length": np.array([length], np.int64),
        }

    def settings(self, request: GenerateRequest) -> Conditioning:  # noqa: ARG002 - it has none
        """Empty: the transformer sees the picture's size in its latents."""
        return {}
