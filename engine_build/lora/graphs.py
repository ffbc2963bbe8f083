"""Writes the adaptable graphs of a package, which LoRAs are drawn with on the CPU."""

from collections.abc import Iterator

import onnx_ir as ir

from engine_build.package.weight_inputs import let_weights_be_inputs
from engine_build.target.targets import takes_loras
from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package.adaptable import (
    AdaptableGraph,
    AdaptableGraphs,
    adaptable_graphs,
    graphs_folder,
    write_graphs,
)
from runtime.package.file_record import file_fault, record_file
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import Manifest, ModelPackage
from runtime.package.target import graph_sha256


def prepare(package: ModelPackage) -> bool:
    """Write the adaptable graphs of a package; False where they are there already.

    Each file is written in one step, and the record that names them last. Raises PackageError
    where a graph of the package is damaged.
    """
    try:
        adaptable_graphs(package)
    except PackageError:
        graphs_folder(package).mkdir(parents=True, exist_ok=True)
        graphs = {role: _write(package, role) for role in _adapted(package.manifest)}
        write_graphs(package, AdaptableGraphs(graphs))
        return True
    return False


def _adapted(manifest: Manifest) -> Iterator[str]:
    """The roles that LoRAs may lie on; weights that were left in place take none."""
    for role, record in manifest.roles.items():
        if takes_loras(role, manifest) and record.weights is not None:
            yield role


def _write(package: ModelPackage, role: str) -> AdaptableGraph:
    record = package.manifest.roles[role]
    own = package.file(record.graph)
    with KnownHashes(package.path) as hashes:
        fault = file_fault(
            own, package.manifest.files[record.graph], "build the package again", hashes
        )
    if fault:
        raise PackageError(fault)
    model = ir.load(own)
    let_weights_be_inputs(model, record.parameters.values())
    path = graphs_folder(package) / f"{role}.onnx"
    write_whole(path, ir.to_proto(model).SerializeToString())
    return AdaptableGraph(
        path.name, record_file(path), made_of=graph_sha256(record, package.manifest)
    )
