"""Checks a role whose network is too large to be held in memory beside its graph.

The same exporter makes a small network of the same architecture, with random weights, and that
one's graph is compared with PyTorch. What it cannot show is that the large network's own weights
were linked to the right places: those are matched by name and shape.
"""

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir
import torch
from safetensors.torch import save_file
from torch import nn

from engine_build.export.role import Reduced, RoleExport
from engine_build.tracing import link, parameter_shapes, trace
from engine_build.verify import check_graph
from engine_build.weights import match_parameters, read_checkpoint
from runtime.manifest import GraphCheck

LARGEST_WHOLE = 200_000_000
"""So many parameters take 0.8 GB in fp32 in PyTorch, and more in ONNX Runtime."""


def check_role(role: RoleExport, graph: Path, external_folder: Path | None = None) -> GraphCheck:
    """Check a role's graph whole, or its architecture at reduced size. Raises BuildError.

    `external_folder` holds the graph's weights where they do not lie beside it.
    """
    size = sum(math.prod(shape) for shape in parameter_shapes(role).values())
    if role.reduced is None or size <= LARGEST_WHOLE:
        return check_graph(role, graph, external_folder)
    return check_reduced(role, role.reduced)


def check_reduced(role: RoleExport, reduced: Reduced) -> GraphCheck:
    """Export and check the role at reduced size; the answer says with which settings."""
    component = role.component
    config = {**component.config, **reduced.settings}
    small = reduced.export(replace(component, config=config))
    network = small.skeleton()
    _randomise(network)
    with TemporaryDirectory(prefix="calotype-check-") as folder:
        graph = _export(small, network, Path(folder))
        check = check_graph(replace(small, load=lambda: network), graph)
    return replace(check, reduced=reduced.settings)


def _export(role: RoleExport, network: nn.Module, folder: Path) -> Path:
    file = folder / "weights.safetensors"
    parameters = {
        role.parameter_names(name)[0]: value.detach() for name, value in network.named_parameters()
    }
    save_file(parameters, file)
    traced = trace(role)
    weights = match_parameters(
        parameter_shapes(role), role.parameter_names, read_checkpoint([file])
    )
    graph = folder / "graph.onnx"
    ir.save(link(traced, {name: weights[name] for name in traced.parameters}, folder), graph)
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
