"""Fused transformers and their text encoders against the plain graphs, in fp32 and in bf16."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.target.onnxruntime_cuda import counts
from engine_build.target.onnxruntime_cuda.compiler import optimise
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from engine_build.target.onnxruntime_cuda.fusions import FUSIONS, Fusion
from engine_build.target.unfused import session_options
from runtime.package.manifest import InputRecord, ModelPackage, load_package
from tests.engine_build.target.rounding import rounded

Arrays = Mapping[str, np.ndarray]

NAMES = ("tiny_flux", "tiny_schnell", "tiny_chroma", "tiny_zimage")
SIZES = {"batch": 2, "evaluations": 3, "height": 8, "width": 12, "tokens": 40, "caption": 64}
GIVEN = {
    "timestep": np.array([801, 30], np.float32),
    "evaluation_sample": np.array([0, 1, 0]),
    "positive_evaluation": np.array([0, 1]),
    # The second caption is filled up beyond its own multiple of 32.
    "caption_length": np.array([50, 20, 64]),
}
BF16 = 2**-8


@pytest.fixture(scope="module", params=NAMES)
def package(request: pytest.FixtureRequest) -> ModelPackage:
    return load_package(request.getfixturevalue(f"{request.param}_package"), request.param)


def inputs_of(records: Mapping[str, InputRecord]) -> Arrays:
    random = np.random.default_rng(1)
    found = {}
    for name, record in records.items():
        shape = [SIZES[extent] if isinstance(extent, str) else extent for extent in record.shape]
        numbers = random.normal(size=shape).astype(record.dtype)
        if record.dtype.startswith("int"):
            numbers = random.integers(0, 9, shape).astype(record.dtype)
        if name == "text_mask":
            numbers = (numbers > 0).astype(record.dtype)
        found[name] = GIVEN.get(name, numbers)
    return found


class Network:
    """One role of a package, with inputs to run it on."""

    def __init__(self, package: ModelPackage, role: str) -> None:
        self._record = package.manifest.roles[role]
        self._graph = package.file(self._record.graph)
        self._folder = package.weights_folder(role)
        self._inputs = inputs_of(self._record.inputs)

    def plain(self) -> ir.Model:
        return ir.load(self._graph)

    def compiled(self, precision: str, fusions: tuple[Fusion, ...] = FUSIONS) -> ir.Model:
        model = self.plain()
        parameters = [each.initializer for each in self._record.parameters.values()]
        optimise(model, precision, parameters, fusions)
        return model

    def run(self, model: ir.Model) -> Arrays:
        # As it is written: optimisations would take the Casts away that round.
        content = ir.to_proto(model).SerializeToString()
        session = onnxruntime.InferenceSession(content, session_options(self._folder))
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(self._inputs)), strict=True))


def roles(package: ModelPackage) -> list[str]:
    return [name for name in package.manifest.roles if not name.endswith("decoder")]


def off(found: Arrays, expected: Arrays) -> float:
    """The root mean square of the difference, relative to that of the answers; the largest."""
    return max(
        float(np.sqrt(np.mean((found[name] - wanted) ** 2) / np.mean(wanted**2)))
        for name, wanted in expected.items()
    )


def test_in_fp32_a_fused_network_answers_as_the_plain_one(package: ModelPackage) -> None:
    for role in roles(package):
        network = Network(package, role)
        model = network.compiled("fp32")
        define_operators(model)
        assert off(network.run(model), network.run(network.plain())) < 1e-5, role


def test_in_bf16_a_fused_network_is_no_farther_off_than_one_without_fusions(
    package: ModelPackage,
) -> None:
    """Values inside of one kernel are not rounded."""
    for role in roles(package):
        network = Network(package, role)
        expected = network.run(network.plain())
        distances = []
        for fusions in (FUSIONS, ()):
            model = network.compiled("bf16", fusions)
            define_operators(model)
            distances.append(off(network.run(rounded(model)), expected))
        fused, unfused = distances
        assert BF16 / 100 < fused < 1.25 * unfused, role


def test_no_norm_and_no_rotation_of_a_transformer_is_left(package: ModelPackage) -> None:
    left = {"bias of a product", "layer norm in fp32"}
    for role in roles(package):
        model = Network(package, role).compiled("bf16")
        assert set(counts.unfused(model)) <= left, role
        if role == "denoiser":
            assert counts.fused(model)["RotatedHeads"]
            assert not any(node.op_type == "LayerNormalization" for node in model.graph)
