"""Roles of a source, exported one by one."""

from pathlib import Path

import onnx_ir as ir

from engine_build.checkpoint.copies import copy_tensors
from engine_build.checkpoint.sources import open_folder, open_preview_decoder
from engine_build.checkpoint.weights import match_parameters
from engine_build.package.export.decoders import preview_decoder
from engine_build.package.export.families import exporter_for
from engine_build.package.export.role import Choices, RoleExport
from engine_build.package.linking import link
from engine_build.package.tracing import parameter_shapes, trace
from engine_build.quiet import quiet


def role_of(source: Path, name: str) -> RoleExport:
    """A role as the source's family exports it; of `preview_decoder`, as the build adds it."""
    if name == "preview_decoder":
        component = open_preview_decoder(source / name)
        return preview_decoder(component, channels=4, max_size=128, doublings=2)
    folder = open_folder(source)
    model = exporter_for(folder).read(folder, Choices())
    return next(role for role in model.roles if role.role == name)


def export(role: RoleExport, directory: Path) -> Path:
    """Write a role's graph and weights; returns the graph's path."""
    with quiet():
        traced = trace(role)
        weights = match_parameters(
            parameter_shapes(role), role.parameter_names, role.component.checkpoint
        )
    read = {name: weights[name] for name in traced.parameters}
    copied = copy_tensors(dict(read.values()), directory / "weights.safetensors", lambda _: None)
    graph = directory / "graph.onnx"
    ir.save(
        link(traced, {k: (name, copied[name]) for k, (name, _) in read.items()}, directory), graph
    )
    return graph
