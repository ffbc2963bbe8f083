"""Compiles every role of models of published structure for ONNX Runtime's CUDA provider.

    python -m benchmarks.published_graphs [MODEL ...]

For each role the nodes that no CUDA graph can hold are named and the operators counted. Compiling
reads no weights, so there are none: sparse files have the tensors' names, dtypes and shapes.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir
from tqdm import tqdm

from benchmarks.machine import write
from benchmarks.real_size import MODELS, write_hollow
from engine_build.checkpoint.single_file.open import open_source
from engine_build.checkpoint.sources import open_preview_decoder
from engine_build.checkpoint.weights import match_parameters
from engine_build.package.export.decoders import preview_role
from engine_build.package.export.families import exporter_for
from engine_build.package.export.role import Choices, RoleExport
from engine_build.package.linking import link
from engine_build.package.placing import in_place
from engine_build.package.tracing import parameter_shapes, trace
from engine_build.quiet import quiet
from engine_build.target.onnxruntime_cuda.capturable import uncapturable
from engine_build.target.onnxruntime_cuda.compiler import optimise
from engine_build.target.onnxruntime_cuda.fusions import FUSIONS, Fusion
from runtime.package.manifest import Precision

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Figures of one role's compiled graph."""

    model: str
    role: str
    precision: str
    seconds: float
    nodes: int
    uncaptured: tuple[str, ...]
    operators: Mapping[str, int]


def published_roles(folder: Path) -> dict[str, RoleExport]:
    """Roles of a diffusers folder by name, including its preview decoder where it has one."""
    source = open_source(folder, None)
    model = exporter_for(source).read(source, Choices())
    roles = list(model.roles)
    if (folder / "preview_decoder").is_dir():
        roles.append(preview_role(open_preview_decoder(folder / "preview_decoder"), model))
    return {role.role: role for role in roles}


def compiled_graph(
    role: RoleExport, fusions: Sequence[Fusion] = FUSIONS, precision: Precision | None = None
) -> ir.Model:
    """Graph of a role as `compile_role` optimises it, in the role's own precision where none is
    named; weights stay in the checkpoint's files.
    """
    found = match_parameters(
        parameter_shapes(role), role.parameter_names, role.component.checkpoint
    )
    placed, traced = in_place(found), trace(role)
    model = link(traced, placed.weights, placed.folder)
    parameters = [placed.weights[parameter][0] for parameter in traced.parameters]
    optimise(model, precision or role.precision, parameters, fusions)
    return model


def measure(name: str, role: RoleExport) -> Compiled:
    """Compile one role of the model `name` and return its figures."""
    started = time.monotonic()
    model = compiled_graph(role)
    return Compiled(
        model=name,
        role=role.role,
        precision=role.precision,
        seconds=round(time.monotonic() - started, 1),
        nodes=len(model.graph),
        uncaptured=tuple(str(refusal) for refusal in uncapturable(model)),
        operators=dict(Counter(node.op_type for node in model.graph).most_common()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--output", type=Path, default=RESULTS / "published_graphs.json")
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="calotype-published-") as scratch, quiet():
        for name in arguments.models or MODELS:
            roles = published_roles(write_hollow(name, Path(scratch) / name, shallow=False))
            for role in tqdm(roles.values(), desc=name, unit="role"):
                found.append(measure(name, role))
                last = found[-1]
                tqdm.write(
                    f"{name:<13} {last.role:<16} {last.precision} {last.seconds:7.1f} s "
                    f"{last.nodes:6} nodes, {len(last.uncaptured)} that cannot be captured"
                )
                for refusal in last.uncaptured:
                    tqdm.write(f"    {refusal}")
    write({"graphs": [asdict(each) for each in found]}, arguments.output)


if __name__ == "__main__":
    main()
