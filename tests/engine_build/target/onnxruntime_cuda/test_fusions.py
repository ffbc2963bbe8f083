"""Fused denoisers of SDXL against the plain graph, also with weights changed as by LoRAs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.package.weight_inputs import let_weights_be_inputs
from engine_build.target.onnxruntime_cuda import counts
from engine_build.target.onnxruntime_cuda.compiler import optimise
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from engine_build.target.onnxruntime_cuda.plain_convolutions import put_plain_convolutions
from runtime.backends.onnxruntime.cpu import open_session
from runtime.package.manifest import ModelPackage, Parameter, load_package
from runtime.package.step_graph import EVALUATION_SAMPLE, POSITIVE_EVALUATION, TIMESTEP

Arrays = Mapping[str, np.ndarray]

# Epsilon and v, with widths that GEGLU's kernel takes and without.
NAMES = ("tiny", "tiny_v", "tiny_wide")
SIZES = {"batch": 2, "evaluations": 3, "height": 8, "width": 4, "tokens": 77}


@dataclass(frozen=True)
class Network:
    """A package's denoiser, with inputs to run it on."""

    package: ModelPackage
    inputs: Arrays

    def plain(self) -> ir.Model:
        return ir.load(self.package.file(self.package.manifest.roles["denoiser"].graph))

    def fused(self, precision: str = "fp32") -> ir.Model:
        model = self.plain()
        optimise(model, precision, [each.initializer for each in self.parameters])
        return model

    @property
    def parameters(self) -> list[Parameter]:
        return list(self.package.manifest.roles["denoiser"].parameters.values())

    def run(self, model: ir.Model, weights: Arrays | None = None) -> Arrays:
        define_operators(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        content = ir.to_proto(model).SerializeToString()
        session = open_session(content, options, self.package.weights_folder("denoiser"))
        names = [each.name for each in session.get_outputs()]
        found = session.run(names, {**self.inputs, **(weights or {})})
        return dict(zip(names, found, strict=True))


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> Network:
    name: str = request.param
    package = load_package(request.getfixturevalue(f"{name}_package"), name)
    random = np.random.default_rng(1)
    inputs = {}
    for name, record in package.manifest.roles["denoiser"].inputs.items():
        shape = [SIZES[extent] if isinstance(extent, str) else extent for extent in record.shape]
        inputs[name] = random.normal(size=shape).astype(record.dtype)
    inputs[TIMESTEP] = np.array([801, 30], np.float32)
    inputs[EVALUATION_SAMPLE] = np.array([0, 1, 0])
    inputs[POSITIVE_EVALUATION] = np.array([0, 1])
    return Network(package, inputs)


def assert_close(found: Arrays, expected: Arrays, tolerance: float) -> None:
    for name, wanted in expected.items():
        np.testing.assert_allclose(
            found[name], wanted, atol=tolerance * float(np.abs(wanted).max()), err_msg=name
        )


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_a_fused_denoiser_answers_as_the_plain_one(
    network: Network, precision: str, tolerance: float
) -> None:
    expected = network.run(network.plain())
    assert_close(network.run(network.fused(precision)), expected, tolerance)


def test_every_fusion_fits_a_network_of_sdxl_s_width(network: Network) -> None:
    model = network.fused("fp16")
    fused, unfused = counts.fused(model), counts.unfused(model)
    assert fused["SkipLayerNormalization"]
    assert fused["SkipGroupNorm"]
    if network.package.manifest.name == "tiny_wide":
        assert fused["BiasSplitGelu"]
        assert not unfused
    else:
        assert unfused == dict.fromkeys(("GEGLU", "bias of a product"), unfused["GEGLU"])


def test_weights_that_loras_change_reach_every_fused_operator(network: Network) -> None:
    replaceable = [each for each in network.parameters if each.replaceable]
    random = np.random.default_rng(2)
    model = network.plain()
    stored = {each.initializer: model.graph.initializers[each.initializer] for each in replaceable}
    weights = {
        name: (random.normal(size=tuple(value.shape)) * 0.2).astype(value.dtype.numpy())
        for name, value in stored.items()
    }
    let_weights_be_inputs(model, replaceable)
    expected = network.run(model, weights)
    adapted = network.fused()
    put_plain_convolutions(adapted)
    let_weights_be_inputs(adapted, replaceable)
    assert_close(network.run(adapted, weights), expected, 1e-4)
    unchanged = network.run(network.plain())
    assert not np.allclose(expected["predicted"], unchanged["predicted"], atol=1e-2)
