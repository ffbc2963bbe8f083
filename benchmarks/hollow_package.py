"""A package of published size whose weights are holes in sparse files: it takes no room on disk, is
opened as any, and draws nothing.

Its graphs are traced at published structure. All else is of the family's tiny model: tokenizers,
checks, the preview.
"""

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from benchmarks.published_graphs import published_roles
from benchmarks.real_size import MODELS, write_hollow
from engine_build.package.build import BuildRequest, build_package
from engine_build.package.export.role import RoleExport
from engine_build.package.linking import link
from engine_build.package.placing import PlacedWeights, in_place
from engine_build.package.roles import match_weights
from engine_build.package.tracing import trace
from engine_build.quiet import quiet
from runtime.package.file_record import FileRecord, record_file
from runtime.package.manifest import ModelPackage, read_manifest, read_package, write_manifest

WHOLE = 10**12
"""Bytes of a shard that no network fills: each has one file of weights, as in a built package."""


def hollow_package(name: str, work: Path) -> ModelPackage:
    """Package `work/engines/NAME`; what is there is kept."""
    engines = work / "engines"
    if not (engines / name).is_dir():
        tiny = MODELS[name].save_tiny(work / "tiny")
        build_package(BuildRequest(tiny, name, work / "tiny_engines"))
        source = write_hollow(name, work / "source", shallow=False, shard_bytes=WHOLE)
        with quiet():
            _enlarge(work / "tiny_engines" / name, source)
        engines.mkdir(exist_ok=True)
        (work / "tiny_engines" / name).rename(engines / name)
    return read_package(engines, name)


def _enlarge(package: Path, source: Path) -> None:
    """Give every network of a tiny package its published graph, and the source's weights."""
    manifest, _ = read_manifest(package)
    roles, external, files = dict(manifest.roles), dict[str, FileRecord](), dict(manifest.files)
    for role, export in published_roles(source).items():
        graph = package / manifest.roles[role].graph
        placed = _write_graph(export, graph)
        files[graph.name] = record_file(graph)
        own = manifest.roles[role].weights
        if own is not None:
            del files[own]
            (package / own).unlink()
        roles[role] = replace(
            manifest.roles[role], weights=None, external_folder=str(placed.folder)
        )
        external |= {str(path): record_file(path) for path in placed.external_files}
    write_manifest(package, replace(manifest, roles=roles, files=files, external_files=external))


def _write_graph(role: RoleExport, path: Path) -> PlacedWeights:
    placed, traced = in_place(match_weights(role)), trace(role)
    ir.save(link(traced, placed.weights, placed.folder), path)
    return placed
