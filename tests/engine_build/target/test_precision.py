"""Graphs in 16 bits: what stays in fp32, what does not, and that both give the same picture."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.package.tolerances import ENGINES
from engine_build.target.precision import typed_graph
from engine_build.target.reference import Reference
from engine_build.target.verify import compared
from runtime.errors import BuildError
from runtime.package.manifest import Precision, RoleRecord, load_package, read_manifest
from tests.engine_build.target.rounding import rounded

# The packages that the fixtures of the same name build, each at a size that it takes.
PACKAGES = ("tiny", "tiny_flux", "tiny_schnell", "tiny_chroma", "tiny_zimage")
SIZE = (64, 96)

PRODUCTS = {"MatMul", "Gemm", "Conv", "ConvTranspose"}
NORMS = {"LayerNormalization", "InstanceNormalization", "ReduceMean", "Pow", "Sqrt"}
SIXTEEN = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


@pytest.fixture
def engines(request: pytest.FixtureRequest, package: str) -> Path:
    found: Path = request.getfixturevalue(f"{package}_package")
    return found


def typed(engines: Path, package: str, role: str, precision: Precision) -> ir.Model:
    record = read_manifest(engines / package)[0].roles[role]
    return typed_graph(ir.load(engines / package / record.graph), precision, names(record))


def names(record: RoleRecord) -> list[str]:
    return [parameter.initializer for parameter in record.parameters.values()]


def dtypes(values: Iterable[ir.Value | None]) -> set[ir.DataType | None]:
    floats = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
    return {value.dtype for value in values if value is not None} & floats


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("package", PACKAGES)
def test_the_answers_are_those_in_fp32_but_for_the_digits(
    engines: Path, package: str, precision: Precision
) -> None:
    calls = Reference(load_package(engines, package), [SIZE]).calls
    manifest, _ = read_manifest(engines / package)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Rounding is not to be optimised away.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, str(engines / package))
    for role, record in manifest.roles.items():
        if record.precision == "fp32":
            continue
        model = typed(engines, package, role, precision)
        if precision == "bf16":
            model = rounded(model)
        session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
        for call in calls[role]:
            found = session.run(list(call.outputs), dict(call.inputs))
            for (name, expected), answer in zip(call.outputs.items(), found, strict=True):
                assert answer.dtype == expected.dtype == np.float32
                off = compared(name, expected, answer, precision)
                assert 0 < off < ENGINES[precision], (role, name, off)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("package", PACKAGES)
def test_products_are_narrow_and_norms_are_wide(
    engines: Path, package: str, precision: Precision
) -> None:
    seen: set[str] = set()
    for role in read_manifest(engines / package)[0].roles:
        for node in typed(engines, package, role, precision).graph:
            if node.op_type in PRODUCTS:
                assert dtypes((*node.inputs, *node.outputs)) == {SIXTEEN[precision]}, node
            elif node.op_type in NORMS:
                assert dtypes((*node.inputs, *node.outputs)) <= {ir.DataType.FLOAT}, node
            seen.add(node.op_type)
    assert seen & PRODUCTS
    assert seen & NORMS


@pytest.mark.parametrize("package", PACKAGES)
def test_names_types_and_weights_are_what_they_were(engines: Path, package: str) -> None:
    for role, record in read_manifest(engines / package)[0].roles.items():
        before = ir.load(engines / package / record.graph).graph
        after = typed(engines, package, role, "bf16").graph
        for ours, theirs in zip(after.inputs, before.inputs, strict=True):
            assert (ours.name, ours.dtype) == (theirs.name, theirs.dtype)
        for ours, theirs in zip(after.outputs, before.outputs, strict=True):
            assert (ours.name, ours.dtype) == (theirs.name, theirs.dtype)
        for name in names(record):
            assert after.initializers[name].dtype == before.initializers[name].dtype
            assert after.initializers[name].uses()


@pytest.mark.parametrize("package", ["tiny", "tiny_flux"])
def test_the_arithmetic_of_a_row_stays_in_fp32(engines: Path, package: str) -> None:
    graph = typed(engines, package, "denoiser", "fp16").graph
    for output in graph.outputs:
        node = output.producer()
        # From each output back to where the network's answer comes in: a Cast of what is narrow.
        while node is not None and node.op_type not in {"Cast", "Concat", "Slice"}:
            assert dtypes(node.inputs) == {ir.DataType.FLOAT}
            node = next(
                (value.producer() for value in node.inputs if value and value.producer()), None
            )
    scaled = [use.node for use in graph.inputs[0].uses() if dtypes(use.node.outputs)]
    assert scaled
    assert all(dtypes(node.outputs) == {ir.DataType.FLOAT} for node in scaled)


def masked(branch: bool = False) -> ir.Model:
    """Scores, and a mask of the lowest number that fp32 has."""
    scores = ir.Value(name="x", shape=ir.Shape([2, 2]), type=ir.TensorType(ir.DataType.FLOAT))
    lowest = np.array([[0, np.finfo(np.float32).min]] * 2, np.float32)
    weight = np.eye(2, dtype=np.float32)
    constants = {
        name: ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=ir.Tensor(array, name=name),
        )
        for name, array in {"mask": lowest, "w": weight, "v": weight}.items()
    }
    first = ir.node("MatMul", [scores, constants["w"]], name="first")
    added = ir.node("Add", [first.outputs[0], constants["mask"]], name="added")
    shares = ir.node("Softmax", [added.outputs[0]], {"axis": -1}, name="shares")
    last = ir.node("MatMul", [shares.outputs[0], constants["v"]], name="last")
    for node in (first, added, shares, last):
        node.outputs[0].name = f"{node.name}.out"
        node.outputs[0].shape = ir.Shape([2, 2])
        node.outputs[0].dtype = ir.DataType.FLOAT
    nodes = [first, added, shares, last]
    if branch:
        inner = ir.Graph([], [], nodes=[], name="inner")
        nodes.append(ir.node("If", [], {"then_branch": inner}, name="branch"))
    graph = ir.Graph(
        [scores],
        [last.outputs[0]],
        nodes=nodes,
        initializers=list(constants.values()),
        opset_imports={"": 20},
        name="masked",
    )
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_masks_stay_finite(precision: Precision) -> None:
    """An infinity in place of the lowest number would make NaNs of what is masked altogether."""
    graph = typed_graph(masked(), precision, ["w", "v"]).graph
    (added,) = (node for node in graph if node.op_type == "Add")
    assert added.inputs[1] is not None
    assert added.inputs[1].const_value is not None
    values = added.inputs[1].const_value.numpy().astype(np.float32)
    assert np.isfinite(values).all()
    assert values[0, 1] < -6e4


def test_fp32_is_the_graph_as_it_is(tiny_package: Path) -> None:
    record = read_manifest(tiny_package / "tiny")[0].roles["vae_decoder"]
    model = ir.load(tiny_package / "tiny" / record.graph)
    before = [node.name for node in model.graph]
    assert [node.name for node in typed_graph(model, "fp32", names(record)).graph] == before


def test_branches_are_refused() -> None:
    with pytest.raises(BuildError, match="branches or loops"):
        typed_graph(masked(branch=True), "fp16", ["w", "v"])
