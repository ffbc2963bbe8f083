"""A role of a package: its graph traced, its weights placed, both checked, and its record."""

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from engine_build.checkpoint.weights import match_parameters
from engine_build.package.export.role import RoleExport
from engine_build.package.linking import link
from engine_build.package.placing import (
    PlacedWeights,
    Weights,
    check_space,
    clone,
    copied,
    in_clone,
    size_of,
    whole_file,
)
from engine_build.package.reduced import check_role
from engine_build.package.tracing import parameter_shapes, trace
from engine_build.progress import Progress
from runtime.package.manifest import AxisRecord, InputRecord, Parameter, RoleRecord


def match_weights(role: RoleExport) -> Weights:
    """The checkpoint's tensor for each parameter of a role's network. Raises SourceError."""
    return match_parameters(parameter_shapes(role), role.parameter_names, role.component.checkpoint)


def clone_whole_files(weights: Mapping[str, Weights], folder: Path) -> dict[str, PlacedWeights]:
    """Clone each file that holds one role's weights and nothing else, where the file system can
    share blocks. Raises BuildError where the disk has no room for the other roles' weights."""
    placed = {}
    for role, found in weights.items():
        file, target = whole_file(found), folder / f"{role}.safetensors"
        if file is not None and clone(file, target):
            placed[role] = in_clone(found, target)
    check_space(
        folder, sum(size_of(found) for role, found in weights.items() if role not in placed)
    )
    return placed


def build_role(
    role: RoleExport,
    weights: Weights,
    placed: PlacedWeights | None,
    folder: Path,
    progress: Progress,
) -> RoleRecord:
    """Write `ROLE.onnx`, and `ROLE.safetensors` where the weights have no place yet; check them."""
    graph = folder / f"{role.role}.onnx"
    with progress.step(f"{role.role}: trace"):
        traced = trace(role)
    with progress.step(f"{role.role}: place weights"):
        if placed is None:
            read = {parameter: weights[parameter] for parameter in traced.parameters}
            with progress.bytes(size_of(read)) as advance:
                placed = copied(read, folder / f"{role.role}.safetensors", advance)
        ir.save(link(traced, placed.weights, placed.folder), graph)
    with progress.step(f"{role.role}: check against PyTorch"):
        check = check_role(role, graph, placed)
    tensors = dict(placed.weights[parameter] for parameter in traced.parameters)
    return RoleRecord(
        graph=graph.name,
        weights=placed.own,
        check=check,
        parameters={
            name: Parameter(initializer=name, shape=tensor.shape, dtype=tensor.dtype)
            for name, tensor in tensors.items()
        },
        inputs=_input_records(role),
        axes={
            axis.name: AxisRecord(
                axis.minimum, axis.maximum, axis.multiple, axis.usual, axis.extents
            )
            for item in role.inputs
            for axis in item.axes.values()
        },
        heads=role.heads,
        precision=role.precision,
        external_folder=None if placed.external_folder is None else str(placed.external_folder),
    )


def _input_records(role: RoleExport) -> dict[str, InputRecord]:
    drawn = role.draw_inputs(role.traced_at, seed=0)
    records = {}
    for item in role.inputs:
        values = drawn[item.name]
        shape = [
            item.axes[at].name if at in item.axes else extent
            for at, extent in enumerate(values.shape)
        ]
        records[item.name] = InputRecord(str(values.numpy().dtype), tuple(shape))
    return records
