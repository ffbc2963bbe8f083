"""Chroma's graph: what is computed once for all blocks."""

from pathlib import Path

import onnx_ir as ir
import pytest

from runtime.package.manifest import load_package


@pytest.fixture(scope="module")
def graph(tiny_chroma_package: Path) -> ir.Graph:
    package = load_package(tiny_chroma_package, "tiny_chroma")
    return ir.load(package.file(package.manifest.roles["denoiser"].graph)).graph


def products(value: ir.Value) -> list[ir.Node]:
    """The products that read a weight, also behind a Cast or a Transpose of it."""
    found = []
    for node, _ in value.uses():
        if node.op_type in {"Cast", "Transpose"}:
            found += products(node.outputs[0])
        elif node.op_type in {"Gemm", "MatMul"}:
            found.append(node)
    return found


def test_the_approximator_is_run_once_for_all_blocks(graph: ir.Graph) -> None:
    """Its weights are read by one product each, of all modulations at once."""
    found = {
        name.partition("distilled_guidance_layer.")[2]: products(value)
        for name, value in graph.initializers.items()
        if "distilled_guidance_layer." in name and name.endswith("weight")
    }
    matrices = {name: nodes for name, nodes in found.items() if not name.startswith("norms")}
    assert {name.split(".")[0] for name in matrices} == {"in_proj", "layers", "out_proj"}
    assert {len(nodes) for nodes in matrices.values()} == {1}


def test_the_mask_s_product_is_computed_once_for_all_blocks(graph: ir.Graph) -> None:
    attentions = [node for node in graph if node.op_type == "Softmax"]
    masked = [node.inputs[0].producer() for node in attentions if node.inputs[0] is not None]
    biases = {node.inputs[1] for node in masked if node is not None and node.op_type == "Add"}
    assert len(attentions) == 4
    (bias,) = biases
    made = bias.producer() if bias is not None else None
    assert made is not None
    assert made.op_type == "Mul"
