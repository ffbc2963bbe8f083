"""SDXL and all that descends from it: Illustrious, Pony, NoobAI.

Two CLIP encoders read the prompt; their hidden states are concatenated, the second one's pooled
text and the picture's sizes condition the timestep. As `StableDiffusionXLPipeline` of diffusers
does it, with weighted prompts and chunks as A1111 does them.
"""

from collections.abc import Mapping

import numpy as np

from runtime.backends.protocol import Engine
from runtime.package.manifest import Manifest
from runtime.plan.families.family import Conditioning, Facts, Guidance, Prompt
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.samplers import SAMPLERS, SCHEDULES, step_table
from runtime.plan.sampling.scheduler_config import SchedulerConfig
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.chunks import align, chunk
from runtime.plan.text.emphasis import emphasise
from runtime.plan.text.tokenizer import PromptTokenizer
from runtime.plan.text.weighting import parse, plain

PENULTIMATE = -2

# Each encoder reads what its own tokenizer cut.
ENCODERS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))


class Sdxl:
    """The family `sdxl`."""

    name = "sdxl"
    text_roles = tuple(role for role, _ in ENCODERS)

    def facts(self, manifest: Manifest) -> Facts:  # noqa: ARG002 - the same for every checkpoint
        """SDXL can do everything that a request can ask for."""
        return Facts(
            title="SDXL",
            samplers=tuple(SAMPLERS),
            schedules=tuple(SCHEDULES),
            guidance=Guidance.CLASSIFIER_FREE,
            negative_prompt=True,
            loras=True,
            clip_skip=True,
            weighted_by_default=True,
            inversions=ENCODERS,
        )

    def prompts(
        self,
        request: GenerateRequest,
        manifest: Manifest,
        tokenizers: Mapping[str, PromptTokenizer],
    ) -> tuple[Prompt, ...]:
        """The prompt, and the negative prompt when guidance acts at any step.

        Clip skip moves the positive prompt's layer only, as in diffusers.
        """
        read = parse if request.prompt_weighting else plain
        texts = [request.prompt, request.negative_prompt or ""][: len(self.mix(request))]
        readers = [(name, tokenizers[name]) for _, name in ENCODERS]
        aligned = align(
            [[chunk(read(text), tokenizer) for text in texts] for _, tokenizer in readers],
            [tokenizer.spec for _, tokenizer in readers],
        )
        names = [name for name, _ in readers]
        chunks = [tuple(zip(names, each, strict=True)) for each in zip(*aligned, strict=True)]
        positive = Prompt(chunks[0], PENULTIMATE - request.clip_skip)
        if len(chunks) == 1:
            return (positive,)
        absent = request.negative_prompt is None
        zeroed = absent and bool(manifest.family_options["force_zeros_for_empty_prompt"])
        return positive, Prompt(chunks[1], PENULTIMATE, zeroed)

    def mix(self, request: GenerateRequest) -> tuple[float, ...]:
        """Classifier-free guidance, `negative + scale * (positive - negative)`; none at scale 1."""
        scale = request.cfg_scale
        if scale is None or scale <= 1:
            return (1.0,)
        return scale, 1 - scale

    def table(self, request: GenerateRequest, manifest: Manifest) -> StepTable:
        """The sampler's table over the checkpoint's noise levels."""
        config = SchedulerConfig.from_mapping(manifest.scheduler)
        return step_table(request.sampler, request.schedule, request.steps, config)

    def encode(self, prompt: Prompt, engines: Mapping[str, Engine]) -> Conditioning:
        """Both encoders over every chunk, side by side; pooled text from the first chunk."""
        read, layer = [prompt.of(name) for _, name in ENCODERS], np.array([prompt.layer], np.int64)
        started = [
            engines[role].start(
                {"input_ids": np.array([chunk.ids for chunk in chunks], np.int64), "layer": layer}
            )
            for (role, _), chunks in zip(ENCODERS, read, strict=True)
        ]
        # Both are under way before the first is waited for.
        answers = [outputs() for outputs in started]
        hidden_states = [
            emphasise(
                answer["hidden_states"], np.array([chunk.weights for chunk in chunks], np.float32)
            )
            for answer, chunks in zip(answers, read, strict=True)
        ]
        pooled = answers[-1]["text_embeds"][:1]
        context = np.concatenate(hidden_states, axis=-1)
        context = context.reshape(1, -1, context.shape[-1])
        conditioning = {"encoder_hidden_states": context, "text_embeds": pooled}
        if prompt.zeroed:
            return {name: np.zeros_like(array) for name, array in conditioning.items()}
        return conditioning

    def settings(self, request: GenerateRequest) -> Conditioning:
        """The time ids `[1, 6]`: original size, crop, target size, as height and width."""
        size = (request.height, request.width)
        return {"time_ids": np.array([[*size, 0, 0, *size]], np.float32)}
