"""Writes the variants of a compiled graph whose weights are inputs, for LoRAs.

The runtime runs a variant in the place of the graph from the first set of LoRAs on
(`runtime.backends.onnxruntime.cuda`). Weights are external data in all of them, so that each is
small.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from engine_build.package.weight_inputs import let_weights_be_inputs
from engine_build.target.onnxruntime_cuda.plain_convolutions import put_plain_convolutions
from runtime.package.engine_record import Variant, VariantRecord, variant_for
from runtime.package.file_record import record_file
from runtime.package.manifest import Parameter, RoleRecord


def write_variants(graph: Path, record: RoleRecord) -> dict[Variant, VariantRecord]:
    """Write the variants of a role's compiled graph beside it: `ROLE.matrices.onnx`, and
    `ROLE.weights.onnx` where the role has convolutions.

    `graph` may be the role's prelude, which has a variant for each of the role's.
    """
    replaceable = [each for each in record.parameters.values() if each.replaceable]
    matrices = [each for each in replaceable if variant_for([each.shape]) == "matrices"]
    variants: dict[Variant, VariantRecord] = {"matrices": _write(graph, "matrices", matrices)}
    if len(matrices) < len(replaceable):
        variants["weights"] = _write(graph, "weights", replaceable)
    return variants


def _write(graph: Path, variant: Variant, inputs: Sequence[Parameter]) -> VariantRecord:
    model = ir.load(graph)
    if variant == "weights":
        put_plain_convolutions(model)
    own = [each for each in inputs if each.initializer in model.graph.initializers]
    let_weights_be_inputs(model, own)
    path = graph.with_suffix(f".{variant}.onnx")
    path.write_bytes(ir.to_proto(model).SerializeToString())
    return VariantRecord(path.name, record_file(path))
