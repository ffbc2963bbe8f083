"""The interface of a family of models."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from numpy.typing import NDArray

from runtime.backends.protocol import Engine
from runtime.package.inversion import Rows
from runtime.package.manifest import Manifest
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.table import StepTable
from runtime.plan.text.chunks import Chunk
from runtime.plan.text.tokenizer import PromptTokenizer

Conditioning = Mapping[str, NDArray[Any]]
"""Conditioning of one evaluation: arrays `[1, ...]` by the name of the step graph's input."""


class Guidance(Enum):
    """Kind of guidance: how a family follows a prompt more strongly than it was trained to."""

    CLASSIFIER_FREE = "two evaluations, extrapolated"
    DISTILLED = "one evaluation, told the scale"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Facts:
    """Capabilities of a family; a request for anything else is refused, by the field's name."""

    title: str
    samplers: tuple[str, ...]
    schedules: tuple[str, ...]
    """Schedules of all of the family's samplers together."""
    guidance: Guidance
    negative_prompt: bool
    loras: bool
    clip_skip: bool
    weighted_by_default: bool
    """True when weights in a prompt act by default. A request can set that for every family."""
    flows: bool = False
    """True for models of velocities, whose one schedule no sampler of `SAMPLERS` makes."""
    inversions: tuple[tuple[str, str], ...] = ()
    """The text encoders that textual inversions have vectors for, each with its tokenizer."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of one evaluation, cut into chunks for each tokenizer. Hashable: a cache's key."""

    chunks: tuple[tuple[str, tuple[Chunk, ...]], ...]
    """Pairs of a tokenizer's name and its chunks."""
    layer: int = -2
    """Index of the text encoder's hidden state, counted from the last (CLIP alone has a choice)."""
    zeroed: bool = False
    """True for a conditioning of zeros in this prompt's shape: SDXL's absent negative prompt."""
    rows: Rows = ()
    """Rows of token embeddings that hold vectors of the prompt's textual inversions."""

    def of(self, tokenizer: str) -> tuple[Chunk, ...]:
        """The chunks for one tokenizer."""
        return dict(self.chunks)[tokenizer]

    @property
    def tokens(self) -> int:
        """Number of tokens that the denoiser reads, begin, end and filling included."""
        return max(sum(len(chunk.ids) for chunk in chunks) for _, chunks in self.chunks)

    @property
    def filling(self) -> int:
        """Number of tokens that only fill the last chunk."""
        return min(chunks[-1].filling for _, chunks in self.chunks)


class Family(Protocol):
    """One architecture: its facts, its text recipe, its step tables."""

    @property
    def name(self) -> str:
        """Name of the family in manifests."""
        ...

    def facts(self, manifest: Manifest) -> Facts:
        """Capabilities for the checkpoint of that package."""
        ...

    @property
    def text_roles(self) -> tuple[str, ...]:
        """Roles of the text encoders that `encode` runs."""
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
        """Conditioning that does not come from text: sizes, distilled guidance."""
        ...
