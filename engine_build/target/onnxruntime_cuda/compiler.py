"""Writes the graph of one role for ONNX Runtime's CUDA provider.

The graph lies in its target's folder. Its weights stay where the package has them: the graph refers
to their files as the package's own graph does, and is opened as bytes together with
`package.weights_folder(role)`, as `runtime.backends.onnxruntime.cuda_provider` does. Every
initializer that the manifest names keeps its name, shape and dtype, so that LoRAs find it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda import counts
from engine_build.target.onnxruntime_cuda.attention import fuse_attention
from engine_build.target.onnxruntime_cuda.capturable import Refusal, uncapturable
from engine_build.target.onnxruntime_cuda.casts import narrow_early, widen_what_has_no_kernel
from engine_build.target.onnxruntime_cuda.concat import split_concats
from engine_build.target.onnxruntime_cuda.fusions import FUSIONS, Fusion, fused_in_turn
from engine_build.target.onnxruntime_cuda.group_norm import fuse_group_norms
from engine_build.target.onnxruntime_cuda.host import put_numbers_on_device
from engine_build.target.onnxruntime_cuda.layout import put_channels_last
from engine_build.target.onnxruntime_cuda.patterns import DOMAIN, OURS
from engine_build.target.onnxruntime_cuda.prelude import split_conditioning
from engine_build.target.onnxruntime_cuda.scaled import scale_stream
from engine_build.target.precision import typed_graph
from runtime.errors import BuildError
from runtime.files import write_whole
from runtime.package.engine_record import Binding
from runtime.package.manifest import ModelPackage, Precision

COUNTS = "calotype.fusions"
"""The key of a graph's metadata that holds the counts and refusals of `CompiledGraph`, as JSON."""


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A compiled graph that was written."""

    path: Path
    prelude: Path | None
    """The graph whose outputs `path` reads beside the role's inputs; None where there is none."""
    inputs: Mapping[str, Binding]
    outputs: Mapping[str, Binding]
    fused: Mapping[str, int]
    """The number of nodes of each of ONNX Runtime's own operators."""
    unfused: Mapping[str, int]
    """The number of places that no fusion fitted, by what they are."""
    uncaptured: tuple[Refusal, ...]
    """The nodes that no CUDA graph can hold; with any of them, the graph runs without one."""


def compile_role(
    package: ModelPackage, role: str, precision: Precision, folder: Path, exponent: int = 0
) -> CompiledGraph:
    """Write `folder/ROLE.onnx`, its stream scaled by `2**-exponent` (`scaled`), and
    `folder/ROLE.prelude.onnx` where the role has a prelude, each in one step.

    Raises BuildError for a graph that cannot be read.
    """
    record = package.manifest.roles[role]
    parameters = [each.initializer for each in record.parameters.values()]
    model = ir.load(package.file(record.graph))
    scale_stream(model, exponent)
    optimise(model, precision, parameters)
    fused, unfused = counts.fused(model), counts.unfused(model)
    inputs = _bindings(model.graph.inputs)
    prelude = split_conditioning(model, record)
    parts = [model] if prelude is None else [model, prelude]
    missing = set(parameters).difference(*(part.graph.initializers for part in parts))
    if missing:
        raise BuildError(f"{role}: optimising its graph lost {', '.join(sorted(missing))}")
    refusals = uncapturable(model)
    model.metadata_props[COUNTS] = json.dumps(
        {"fused": fused, "unfused": unfused, "uncaptured": [asdict(each) for each in refusals]}
    )
    path, beside = folder / f"{role}.onnx", _prelude_file(folder, role)
    beside.unlink(missing_ok=True)
    if prelude is not None:
        write_whole(beside, ir.to_proto(prelude).SerializeToString())
    write_whole(path, ir.to_proto(model).SerializeToString())
    return CompiledGraph(
        path=path,
        prelude=None if prelude is None else beside,
        inputs=inputs,
        outputs=_bindings(model.graph.outputs),
        fused=fused,
        unfused=unfused,
        uncaptured=refusals,
    )


def compiled_graphs(folder: Path, role: str) -> list[Path]:
    """The graphs that `compile_role` wrote, in the order in which they run."""
    prelude = _prelude_file(folder, role)
    return [*([prelude] if prelude.exists() else []), folder / f"{role}.onnx"]


def optimise(
    model: ir.Model,
    precision: Precision,
    parameters: list[str],
    fusions: Sequence[Fusion] = FUSIONS,
) -> None:
    """Type a graph in a precision and fuse its operators, in place.

    A part of FUSIONS shows what each of them is worth.
    """
    split_concats(model)
    # The rules for attention know no Casts, so attention is fused before the graph is typed. The
    # operator for group norms takes fp16 and sums in fp32, so group norms are fused after that.
    fuse_attention(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    typed_graph(model, precision, parameters)
    narrow_early(model)
    widen_what_has_no_kernel(model)
    fuse_group_norms(model)
    put_channels_last(model)
    model.opset_imports[DOMAIN] = 1
    for _ in fused_in_turn(model, fusions):
        pass
    # Fused nodes stand where the first of theirs stood, maybe before constants that they read.
    model.graph.sort()
    if any(node.domain == OURS for node in model.graph):
        model.opset_imports[OURS] = 1
    put_numbers_on_device(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
    _omit_what_none_reads(model)


def _omit_what_none_reads(model: ir.Model) -> None:
    """Leave out the outputs of ONNX Runtime's own operators that none reads: their kernels write
    what has a name."""
    for node in model.graph:
        for output in node.outputs[1:] if node.domain == DOMAIN else ():
            if not output.uses() and not output.is_graph_output():
                output.name = ""


def _prelude_file(folder: Path, role: str) -> Path:
    return folder / f"{role}.prelude.onnx"


def _bindings(values: Iterable[ir.Value]) -> dict[str, Binding]:
    bindings = {}
    for value in values:
        assert value.dtype is not None
        assert value.shape is not None
        shape = tuple(extent if isinstance(extent, int) else -1 for extent in value.shape)
        bindings[str(value.name)] = Binding(str(value.dtype.numpy()), shape)
    return bindings
