"""Variants of a compiled graph take weights as inputs, and compute the same."""

from collections import Counter
from pathlib import Path

import onnx
import pytest

from engine_build.target.onnxruntime_cuda.check import check_compiled
from engine_build.target.onnxruntime_cuda.compiler import compile_role, compiled_graphs
from engine_build.target.onnxruntime_cuda.variants import write_variants
from engine_build.target.reference import Reference
from runtime.package.engine_record import Variant, variant_for
from runtime.package.file_record import record_file
from runtime.package.manifest import ModelPackage, load_package
from tests.places import ENGINES

ROLE = "denoiser"

Written = tuple[list[Path], dict[Variant, list[Path]]]


@pytest.fixture(scope="module")
def demo() -> ModelPackage:
    return load_package(ENGINES, "demo")


@pytest.fixture(scope="module")
def written(demo: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The denoiser's prelude and its step, and the variants of both."""
    folder = tmp_path_factory.mktemp("compiled")
    compile_role(demo, ROLE, "fp32", folder)
    graphs = compiled_graphs(folder, ROLE)
    prelude, step = (write_variants(each, demo.manifest.roles[ROLE]) for each in graphs)
    assert prelude.keys() == step.keys()
    assert all(
        record.content == record_file(folder / record.file)
        for record in (*prelude.values(), *step.values())
    )
    return graphs, {
        variant: [folder / each[variant].file for each in (prelude, step)] for variant in step
    }


def inputs_of(path: Path) -> list[str]:
    return [each.name for each in onnx.load(path, load_external_data=False).graph.input]


def operators_of(path: Path) -> Counter[str]:
    return Counter(each.op_type for each in onnx.load(path, load_external_data=False).graph.node)


def test_exactly_the_weights_that_it_is_for_are_inputs(
    demo: ModelPackage, written: Written
) -> None:
    graphs, variants = written
    parameters = demo.manifest.roles[ROLE].parameters.values()
    for variant, paths in variants.items():
        weights = {
            each.initializer
            for each in parameters
            if each.replaceable and variant_for([each.shape]) in {"matrices", variant}
        }
        found = [
            set(inputs_of(path)) - set(inputs_of(graph))
            for path, graph in zip(paths, graphs, strict=True)
        ]
        assert set().union(*found) == weights
        assert all(found), "the prelude and the step have weights of their own"
    assert list(variants) == ["matrices", "weights"]


def test_convolutions_are_slower_only_where_their_kernels_are_inputs(written: Written) -> None:
    graphs, variants = written
    plain, matrices, weights = (operators_of(paths[-1]) for paths in (graphs, *variants.values()))
    assert matrices == plain
    assert weights["NhwcConv"] == 0
    assert weights["Conv"] == plain["NhwcConv"] > 0


def test_each_computes_what_the_package_s_graph_does(demo: ModelPackage, written: Written) -> None:
    _, variants = written
    calls = Reference(demo, [(64, 64)]).calls[ROLE][:1]
    for variant, paths in variants.items():
        check = check_compiled(demo, ROLE, paths, "fp32", calls)
        assert check.passed, f"{variant}: {check}"
