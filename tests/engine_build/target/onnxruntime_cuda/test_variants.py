"""Variants of a compiled graph take weights as inputs, and compute the same."""

from collections import Counter
from pathlib import Path

import onnx
import pytest

from engine_build.target.onnxruntime_cuda.check import check_compiled
from engine_build.target.onnxruntime_cuda.compiler import compile_role
from engine_build.target.onnxruntime_cuda.variants import write_variants
from engine_build.target.reference import Reference
from runtime.package.manifest import ModelPackage, load_package, record_file
from runtime.package.target import Variant, VariantRecord, variant_for
from tests.places import ENGINES

ROLE = "denoiser"

Written = tuple[Path, dict[Variant, VariantRecord]]


@pytest.fixture(scope="module")
def demo() -> ModelPackage:
    return load_package(ENGINES, "demo")


@pytest.fixture(scope="module")
def written(demo: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The denoiser's compiled graph, and its variants."""
    graph = compile_role(demo, ROLE, "fp32", tmp_path_factory.mktemp("compiled")).path
    return graph, write_variants(graph, demo.manifest.roles[ROLE])


def inputs_of(path: Path) -> list[str]:
    return [each.name for each in onnx.load(path, load_external_data=False).graph.input]


def operators_of(path: Path) -> Counter[str]:
    return Counter(each.op_type for each in onnx.load(path, load_external_data=False).graph.node)


def test_exactly_the_weights_that_it_is_for_are_inputs(
    demo: ModelPackage, written: Written
) -> None:
    graph, variants = written
    parameters = demo.manifest.roles[ROLE].parameters.values()
    for variant, record in variants.items():
        path = graph.with_name(record.file)
        weights = {
            each.initializer
            for each in parameters
            if each.replaceable and variant_for([each.shape]) in {"matrices", variant}
        }
        assert set(inputs_of(path)) - set(inputs_of(graph)) == weights
        assert record.content == record_file(path)
    assert list(variants) == ["matrices", "weights"]


def test_convolutions_are_slower_only_where_their_kernels_are_inputs(written: Written) -> None:
    graph, variants = written
    plain, matrices, weights = (
        operators_of(path)
        for path in (graph, *(graph.with_name(each.file) for each in variants.values()))
    )
    assert matrices == plain
    assert weights["NhwcConv"] == 0
    assert weights["Conv"] == plain["NhwcConv"] > 0


def test_each_computes_what_the_package_s_graph_does(demo: ModelPackage, written: Written) -> None:
    graph, variants = written
    calls = Reference(demo, [(64, 64)]).calls[ROLE][:1]
    for record in variants.values():
        check = check_compiled(demo, ROLE, graph.with_name(record.file), "fp32", calls)
        assert check.passed, f"{record.file}: {check}"
