"""The build stage's view of a role, to export it, and of a family, to build its models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from engine_build.checkpoint.sources import Component, ModelSource
from engine_build.package.export.latents import LatentScaling
from runtime.errors import BuildError
from runtime.package.manifest import BATCH, Defaults, LatentFormat, Limits, Precision

Sizes = Mapping[str, int]
"""An extent for each dynamic axis, by the axis's name."""

Draw = Callable[[Sizes, torch.Generator], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Axis:
    """A dynamic axis of a graph. Axes of one name have one extent throughout the graph."""

    name: str
    minimum: int = 1
    maximum: int | None = None
    multiple: int = 1
    """The extent is a multiple of this; `minimum` and `maximum` bound the extent itself."""
    usual: int | None = None
    """The extent of most requests; None where a request's size and batch determine the extent."""
    extents: tuple[int, ...] = ()
    """The few extents that inputs may be filled up to, since the graph gives the same then."""


TEXT_BATCH = Axis(BATCH, 1, 256)
"""The axis of the texts that an encoder reads at once."""


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input of a graph: its dynamic axes by position, and random values to try it with."""

    name: str
    axes: Mapping[int, Axis]
    draw: Draw


@dataclass(frozen=True, slots=True)
class RoleExport:
    """The export of one role from a component of diffusers to a graph."""

    role: str
    component: Component
    skeleton: Callable[[], nn.Module]
    """Builds the network from its configuration; called where parameters take no memory."""
    load: Callable[[], nn.Module]
    """Loads the network by its own library, weights widened to fp32: the reference."""
    wrap: Callable[[nn.Module], nn.Module]
    """Wraps the network into the module that the graph computes, which takes `inputs` in order."""
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    traced_at: Sizes
    checked_at: tuple[Sizes, ...]
    """The sizes at which the graph is compared with PyTorch, other than those of the trace."""
    parameter_names: Callable[[str], tuple[str, ...]] = lambda name: (name,)
    """From a parameter's name in the network to its names in checkpoints.

    The first name is the published one, which the package uses; the others are older or newer.
    """
    precision: Precision = "fp32"
    """The default precision of the role's engines for a GPU."""
    tolerance: float = 1e-4
    """The largest error, relative to the largest magnitude of PyTorch's output."""
    heads: int | None = None
    """The heads of the attention of the most tokens; None for no such attention."""
    reduced: "Reduced | None" = None
    """Small networks to check in the place of one too large to be held in memory twice."""

    def draw_inputs(self, sizes: Sizes, seed: int) -> dict[str, torch.Tensor]:
        """Random inputs of these sizes, each a tensor of its own, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        return {item.name: item.draw(sizes, generator) for item in self.inputs}


@dataclass(frozen=True, slots=True)
class Reduced:
    """Small networks of a role's architecture."""

    settings: Mapping[str, Any]
    """Changes of config.json."""
    export: Callable[[Component], RoleExport]
    """Exports the role from a component with the changed configuration."""
    blocks: tuple[Mapping[str, Any], ...] = ()
    """Changes of config.json that leave single blocks in their full width: the parameters of such a
    network are some of the whole network's, so that it takes the checkpoint's own weights."""


@dataclass(frozen=True, slots=True)
class TokenizerExport:
    """A tokenizer to be put into the package."""

    name: str
    path: Path
    max_length: int
    """The number of tokens that the text encoder reads at once."""
    begins: bool = True
    """True where a prompt is framed with a first token; T5 and Qwen have none."""


@dataclass(frozen=True, slots=True)
class ModelExport:
    """The parts of a package, as the family's module reads them from the source."""

    family: str
    roles: tuple[RoleExport, ...]
    tokenizers: tuple[TokenizerExport, ...]
    vae: Component
    latents: LatentFormat
    scaling: LatentScaling
    limits: Limits
    defaults: Defaults
    scheduler: Mapping[str, Any]
    family_options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choices:
    """Choices of the person who builds; None leaves a choice to the family."""

    max_size: int | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    sampler: str | None = None
    negative_prompt: str | None = None
    guidance_baked_in: bool = False
    """The weights were distilled to need no guidance, which no file of the checkpoint says."""
    resolutions: tuple[tuple[int, int], ...] = ()
    """Sizes, width and height in pixels, that the package must take."""

    def refuse(self, *names: str) -> None:
        """Refuse choices that a model has no use for, by name. Raises BuildError."""
        for name in names:
            if getattr(self, name):
                raise BuildError(
                    f"{name} {getattr(self, name)!r}: this model takes no {name}; leave it out"
                )


class FamilyExporter(Protocol):
    """A family, as the build stage sees it; its counterpart is in `runtime.plan.families`."""

    def read(self, source: ModelSource, choices: Choices) -> ModelExport:
        """The parts of a package of this source. Raises SourceError, BuildError for a choice."""
        ...
