"""What a family of models is, to the rest of the runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from numpy.typing import NDArray

from runtime.backends.protocol import Engine
from runtime.package.manifest import Manifest
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.chunks import Chunk
from runtime.plan.text.tokenizer import PromptTokenizer

Conditioning = Mapping[str, NDArray[Any]]
"""What one evaluation is conditioned on: the step graph's own input names, arrays `[1, ...]`."""


class Guidance(Enum):
    """How a family follows its prompt more strongly than it was trained to."""

    CLASSIFIER_FREE = "two evaluations, extrapolated"
    DISTILLED = "one evaluation, told the scale"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a family can do; what it cannot, requests are refused by name."""

    title: str
    samplers: tuple[str, ...]
    schedules: tuple[str, ...]
    """What its samplers take, over all of them."""
    guidance: Guidance
    negative_prompt: bool
    loras: bool
    clip_skip: bool
    weighted_by_default: bool
    """Whether weights in a prompt act where a request does not say. Every family heeds one that
    says so."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of one evaluation, cut into chunks for each tokenizer. Hashable: a cache's key."""

    chunks: tuple[tuple[str, tuple[Chunk, ...]], ...]
    """Pairs of a tokenizer's name and its chunks."""
    layer: int = -2
    """Which hidden state of the text encoders is taken, counted from the last, where there is a
    choice."""
    zeroed: bool = False
    """The conditioning has this prompt's shape and holds zeros: how SDXL sees no prompt at all."""

    def of(self, tokenizer: str) -> tuple[Chunk, ...]:
        """The chunks for one tokenizer."""
        return dict(self.chunks)[tokenizer]

    @property
    def tokens(self) -> int:
        """How many the denoiser reads of it: frames and filling are among them."""
        return max(sum(len(chunk.ids) for chunk in chunks) for _, chunks in self.chunks)

    @property
    def filling(self) -> int:
        """How many tokens only fill its last chunk: of prompts as long, the fuller needs it."""
        return min(chunks[-1].filling for _, chunks in self.chunks)


class Family(Protocol):
    """One architecture: its facts, its text recipe, its step tables."""

    @property
    def name(self) -> str:
        """What manifests call it."""
        ...

    def facts(self, manifest: Manifest) -> Facts:
        """What it can do with the checkpoint of that package."""
        ...

    @property
    def text_roles(self) -> tuple[str, ...]:
        """The roles that `encode` runs."""
        ...

    def prompts(
        self,
        request: GenerateRequest,
        manifest: Manifest,
        tokenizers: Mapping[str, PromptTokenizer],
    ) -> tuple[Prompt, ...]:
        """The evaluations that a request needs, the positive prompt's first."""
        ...

    def mix(self, request: GenerateRequest) -> tuple[float, ...]:
        """The weight of each evaluation where guidance acts; one for each of `prompts`."""
        ...

    def table(self, request: GenerateRequest, manifest: Manifest) -> StepTable:
        """The step table of a request, by the checkpoint's scheduler_config.json."""
        ...

    def encode(self, prompt: Prompt, engines: Mapping[str, Engine]) -> Conditioning:
        """Run the text encoders on one prompt. `engines` holds the `text_roles`."""
        ...

    def settings(self, request: GenerateRequest) -> Conditioning:
        """The conditioning that is no text: sizes, distilled guidance."""
        ...
