"""Checks a role whose network is too large to be held in memory beside its graph.

Small networks of the same architecture take its place, exported by the same code. A narrow network
has random weights. The others are single blocks in their full width with their own weights, which
the graph reads from where the package has them, and PyTorch from the checkpoint.
"""

import gc
import math
from collections.abc import Callable, Mapping
from ctypes import CDLL
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
import torch
from safetensors.torch import save_file
from torch import nn

from engine_build.checkpoint.sources import Component
from engine_build.checkpoint.weights import match_parameters, read_checkpoint
from engine_build.package.export.role import Reduced, RoleExport
from engine_build.package.linking import link
from engine_build.package.placing import PlacedWeights, Weights
from engine_build.package.state import load_state
from engine_build.package.tracing import TracedGraph, parameter_shapes, trace
from engine_build.package.verify import check_graph
from runtime.package.manifest import GraphCheck

LARGEST_WHOLE = 200_000_000
"""The most parameters of a network that is checked whole: 0.8 GB in fp32 in PyTorch, and more in
ONNX Runtime."""


def check_role(role: RoleExport, graph: Path, placed: PlacedWeights) -> GraphCheck:
    """Check a role's graph whole, or its architecture at reduced size. Raises BuildError.

    `placed` are the weights that the graph refers to.
    """
    size = sum(math.prod(shape) for shape in parameter_shapes(role).values())
    if role.reduced is None or size <= LARGEST_WHOLE:
        return check_graph(role, graph, placed.external_folder)
    return check_reduced(role, role.reduced, placed)


def check_reduced(role: RoleExport, reduced: Reduced, placed: PlacedWeights) -> GraphCheck:
    """Export and check the role at reduced size; the answer says with which settings."""
    checks = [check_narrow(role, reduced)]
    for block in reduced.blocks:
        _give_back()
        checks.append(check_block(role, reduced.export, block, placed))
    outputs = {name: max(check.outputs[name] for check in checks) for name in role.outputs}
    return GraphCheck(
        largest_error=max(outputs.values()),
        tolerance=checks[0].tolerance,
        outputs=outputs,
        reduced={"random weights": reduced.settings, "own weights": list(reduced.blocks)},
    )


def _give_back() -> None:
    """Return freed memory to the system: glibc keeps what earlier checks took, and a block's own
    weights come on top of it."""
    gc.collect()
    trim = getattr(CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def check_narrow(role: RoleExport, reduced: Reduced) -> GraphCheck:
    """Export and check a network with the changed settings, of random weights."""
    small = _changed(role, reduced.export, reduced.settings)
    network = small.skeleton()
    _randomise(network)
    with TemporaryDirectory(prefix="calotype-check-") as name:
        folder = Path(name)
        weights = _saved(small, network, folder / "weights.safetensors")
        graph = _linked(trace(small), weights, folder, folder)
        return check_graph(replace(small, load=lambda: network), graph)


def check_block(
    role: RoleExport,
    export: Callable[[Component], RoleExport],
    settings: Mapping[str, Any],
    placed: PlacedWeights,
) -> GraphCheck:
    """Check a block: the graph reads the package's weights, PyTorch the checkpoint's."""
    block = _changed(role, export, settings)
    traced = trace(block)

    def load() -> nn.Module:
        checkpoint, names = role.component.checkpoint, role.parameter_names
        return load_state(block.skeleton, checkpoint, names, traced.parameters)

    with TemporaryDirectory(prefix="calotype-check-") as folder:
        graph = _linked(traced, placed.weights, placed.folder, Path(folder))
        return check_graph(replace(block, load=load), graph, placed.folder, frugal=True)


def _changed(
    role: RoleExport, export: Callable[[Component], RoleExport], settings: Mapping[str, Any]
) -> RoleExport:
    component = role.component
    return export(replace(component, config={**component.config, **settings}))


def _saved(role: RoleExport, network: nn.Module, file: Path) -> Weights:
    parameters = {
        role.parameter_names(name)[0]: value.detach() for name, value in network.named_parameters()
    }
    save_file(parameters, file)
    return match_parameters(parameter_shapes(role), role.parameter_names, read_checkpoint([file]))


def _linked(traced: TracedGraph, weights: Weights, weights_folder: Path, folder: Path) -> Path:
    read = {name: weights[name] for name in traced.parameters}
    graph = folder / "graph.onnx"
    ir.save(link(traced, read, weights_folder), graph)
    return graph


def _randomise(network: nn.Module) -> None:
    """Weights of unit gain: some networks leave parameters as the memory was."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            fan_in = math.prod(parameter.shape[1:])
            scale = 0.1 if parameter.ndim < 2 else 1 / math.sqrt(fan_in)
            centre = 1.0 if parameter.ndim < 2 and name.endswith("weight") else 0.0
            parameter.copy_(centre + scale * torch.randn(parameter.shape, generator=generator))
