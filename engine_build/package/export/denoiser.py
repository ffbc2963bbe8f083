"""The role `denoiser`: a family's network wrapped into the step graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from engine_build.checkpoint.sources import Component
from engine_build.package.export.networks import load_network, network_skeleton
from engine_build.package.export.role import Axis, GraphInput, Reduced, RoleExport, Sizes
from engine_build.package.step_graph import StepGraph, step_inputs
from runtime.package.manifest import (
    BATCH,
    EVALUATIONS,
    HEIGHT,
    WIDTH,
    LatentFormat,
    Limits,
    Precision,
)
from runtime.package.step_graph import OUTPUTS


@dataclass(frozen=True, slots=True)
class DenoiserSizes:
    """The sizes at which a step graph is traced or checked."""

    samples: int
    evaluations: int
    latents: tuple[int, int]
    """Height and width in latents."""
    others: Mapping[str, int] = field(default_factory=dict)
    """The extents of the conditioning's own axes."""

    def by_axis(self) -> Sizes:
        """The sizes by the names of the graph's axes."""
        height, width = self.latents
        usual = {BATCH: self.samples, EVALUATIONS: self.evaluations}
        return {**usual, HEIGHT: height, WIDTH: width, **self.others}


def evaluation_axis(limits: Limits) -> Axis:
    """The leading axis of every input that conditions."""
    return Axis(EVALUATIONS, 1, limits.max_evaluations)


def denoiser(
    component: Component,
    network_class: Any,
    wrap: Callable[[nn.Module], nn.Module],
    limits: Limits,
    latents: LatentFormat,
    *,
    precision: Precision,
    conditioning: tuple[GraphInput, ...],
    traced_at: DenoiserSizes,
    checked_at: tuple[DenoiserSizes, ...],
    heads: int | None,
    reduced: Reduced,
) -> RoleExport:
    """Export a network of diffusers inside the step graph.

    `wrap` turns the network into the module that `StepGraph` calls. Axes count in latents; sizes
    keep to the grid that `limits` state; on a GPU the network computes in `precision`.
    """
    grid = limits.multiple_of // latents.scale_factor
    largest = limits.max_size // latents.scale_factor
    return RoleExport(
        role="denoiser",
        component=component,
        skeleton=lambda: network_skeleton(network_class, component),
        load=lambda: load_network(network_class, component),
        wrap=lambda network: StepGraph(wrap(network)),
        inputs=step_inputs(
            channels=latents.channels,
            batch=Axis(BATCH, 1, limits.max_batch),
            evaluations=evaluation_axis(limits),
            height=Axis(HEIGHT, 2 * grid, largest, grid),
            width=Axis(WIDTH, 2 * grid, largest, grid),
            conditioning=conditioning,
        ),
        outputs=OUTPUTS,
        precision=precision,
        traced_at=traced_at.by_axis(),
        checked_at=tuple(sizes.by_axis() for sizes in checked_at),
        heads=heads,
        reduced=reduced,
    )
