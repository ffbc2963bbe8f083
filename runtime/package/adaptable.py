"""Adaptable graphs: what ONNX Runtime on the CPU runs while LoRAs act.

An adaptable graph is a role's own graph in which every parameter is an input too, biases and those
of norms among them, so that each call can be given other values. `engine-build lora add` writes
these graphs into `engines/NAME/loras/.graphs/`, beside the packs: an id of a pack never begins with
a dot. The sealed `graphs.json` there holds each file's hash, and the hash of the package's graph
that the file was made of. The weights stay in the package's own files: an adaptable graph refers to
the weights by the same paths as the package's graph, relative to `ModelPackage.weights_folder`.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package import pack
from runtime.package.file_record import FileRecord, file_fault
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import ModelPackage
from runtime.package.sealed import read_sealed, seal
from runtime.package.target import graph_sha256

FORMAT = 2
FOLDER = ".graphs"
RECORD_NAME = "graphs.json"

_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_STRICT)
class AdaptableGraph:
    """One role's adaptable graph."""

    file: str
    content: FileRecord
    made_of: str
    """The SHA-256 of the package's graph that the adaptable graph was made of."""


@checked_dataclass(frozen=True, config=_STRICT)
class AdaptableGraphs:
    """The adaptable graphs of a package."""

    graphs: Mapping[str, AdaptableGraph]
    """By role."""
    format: int = FORMAT


_GRAPHS: TypeAdapter[AdaptableGraphs] = TypeAdapter(AdaptableGraphs)


def graphs_folder(package: ModelPackage) -> Path:
    """The folder of a package's adaptable graphs."""
    return package.path / pack.FOLDER / FOLDER


def write_graphs(package: ModelPackage, graphs: AdaptableGraphs) -> None:
    """Write `graphs.json`, in one step, once the files that it names are there."""
    write_whole(graphs_folder(package) / RECORD_NAME, seal(_GRAPHS, graphs))


def adaptable_graphs(package: ModelPackage) -> dict[str, Path]:
    """The file of each role's adaptable graph.

    Raises PackageError, with the remedy, where `graphs.json` or a file of it is missing or damaged,
    or an adaptable graph was made of another graph than the package has.
    """
    folder, manifest = graphs_folder(package), package.manifest
    remedy = f"write the graphs with: engine-build lora prepare --model {package.path.name}"
    path = folder / RECORD_NAME
    try:
        record, _ = read_sealed(path, _GRAPHS, FORMAT, remedy)
    except FileNotFoundError:
        raise PackageError(
            f"{path}: not there, and with LoRAs {manifest.name} is drawn on the CPU by the graphs "
            f"that it names; {remedy}"
        ) from None
    with KnownHashes(package.path) as hashes:
        for role, graph in record.graphs.items():
            file, own = folder / graph.file, manifest.roles.get(role)
            if own is None or graph.made_of != graph_sha256(own, manifest):
                raise PackageError(
                    f"{file}: made of another {role} than {manifest.name} has; {remedy}"
                )
            if fault := file_fault(file, graph.content, remedy, hashes):
                raise PackageError(fault)
    return {role: folder / graph.file for role, graph in record.graphs.items()}
