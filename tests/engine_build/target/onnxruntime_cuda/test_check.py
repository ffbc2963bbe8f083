"""That a compiled graph computes what the package's own does, and that one which does not is
seen."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir
import pytest

from engine_build.target.capture import Call
from engine_build.target.onnxruntime_cuda.check import check_compiled
from engine_build.target.onnxruntime_cuda.compiler import compile_role, compiled_graphs
from engine_build.target.reference import Reference
from runtime.errors import BuildError
from runtime.package.manifest import ModelPackage, Precision, load_package
from tests.tiny.lora_packs import ENGINES

Calls = Mapping[str, Sequence[Call]]


@pytest.fixture(scope="module")
def demo() -> ModelPackage:
    return load_package(ENGINES, "demo")


@pytest.fixture(scope="module")
def demo_calls(demo: ModelPackage) -> Calls:
    return Reference(demo, [(64, 96)]).calls


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_role_of_the_demo_passes(
    demo: ModelPackage, demo_calls: Calls, precision: Precision, tmp_path: Path
) -> None:
    for role, record in demo.manifest.roles.items():
        chosen: Precision = "fp32" if record.precision == "fp32" else precision
        compile_role(demo, role, chosen, tmp_path)
        graphs = compiled_graphs(tmp_path, role)
        check = check_compiled(demo, role, graphs, chosen, demo_calls[role])
        assert check.passed, f"{role}: {check}"


@pytest.mark.parametrize("name", ["tiny", "tiny_flux", "tiny_chroma", "tiny_zimage"])
def test_every_role_of_every_family_passes(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    engines: Path = request.getfixturevalue(f"{name}_package")
    package = load_package(engines, name)
    calls = Reference(package, [(64, 96)]).calls
    for role, record in package.manifest.roles.items():
        if role in calls:
            compile_role(package, role, record.precision, tmp_path)
            graphs = compiled_graphs(tmp_path, role)
            check = check_compiled(package, role, graphs, record.precision, calls[role])
            assert check.passed, f"{role}: {check}"


@pytest.fixture(scope="module")
def fused_denoiser(demo: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_role(demo, "denoiser", "fp32", tmp_path_factory.mktemp("fused")).path


def other_activation(node: ir.Node) -> None:
    node.attributes["activation"] = ir.AttrInt64("activation", 0)


def other_groups(node: ir.Node) -> None:
    node.attributes["groups"] = ir.AttrInt64("groups", 2)


def other_heads(node: ir.Node) -> None:
    node.attributes["num_heads"] = ir.AttrInt64("num_heads", 2)


def other_scale(node: ir.Node) -> None:
    node.attributes["scale"] = ir.AttrFloat32("scale", 0.1)


def other_weights(node: ir.Node) -> None:
    """Kernels upside down."""
    transpose = node.inputs[1].producer() if node.inputs[1] else None
    assert transpose is not None
    transpose.attributes["perm"] = ir.AttrInt64s("perm", [0, 3, 2, 1])


@pytest.mark.parametrize(
    "fault",
    [
        ("GroupNorm", other_activation),
        ("GroupNorm", other_groups),
        ("MultiHeadAttention", other_heads),
        ("MultiHeadAttention", other_scale),
        ("NhwcConv", other_weights),
    ],
)
def test_a_fusion_that_computes_something_else_does_not_pass(
    demo: ModelPackage,
    demo_calls: Calls,
    fused_denoiser: Path,
    fault: tuple[str, Callable[[ir.Node], None]],
    tmp_path: Path,
) -> None:
    operator, spoil = fault
    model = ir.load(fused_denoiser)
    spoil([node for node in model.graph if node.op_type == operator][-1])
    graph = tmp_path / "spoilt.onnx"
    graph.write_bytes(ir.to_proto(model).SerializeToString())
    prelude, _ = compiled_graphs(fused_denoiser.parent, "denoiser")
    check = check_compiled(demo, "denoiser", [prelude, graph], "fp32", demo_calls["denoiser"][:1])
    assert not check.passed


def test_a_graph_that_cannot_be_opened_is_named(
    demo: ModelPackage, demo_calls: Calls, tmp_path: Path
) -> None:
    graph = compile_role(demo, "text_encoder", "fp32", tmp_path).path
    model = ir.load(graph)
    next(iter(model.graph)).op_type = "Unheard"
    graph.write_bytes(ir.to_proto(model).SerializeToString())
    with pytest.raises(BuildError, match=r"^text_encoder: ONNX Runtime cannot open its graph: "):
        check_compiled(demo, "text_encoder", [graph], "fp32", demo_calls["text_encoder"])
