"""The step graph's arithmetic, as PyTorch and as the graph in a package."""

import inspect
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import rescale_noise_cfg
from torch import nn

from engine_build.package.step_graph import StepGraph, rescale_guidance
from engine_build.package.verify import output_error, run_graph
from runtime.backends.host_denoiser import row_inputs
from runtime.backends.protocol import Row
from runtime.package.manifest import load_package
from runtime.package.step_graph import COLUMNS, OUTPUTS, input_shapes
from tests.engine_build.package.roles import role_of


class Affine(nn.Module):
    """A denoiser that can be checked by hand: latents, time and one number of conditioning."""

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        return latents * 0.5 + timestep[:, None, None, None] * 0.01 + bias[:, None, None, None]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_row_is_the_weighted_sum_that_the_design_states() -> None:
    latents, history, noise = randn(2, 4, 6, 5), randn(2, 3, 4, 6, 5, seed=1), randn(2, 4, 6, 5)
    coefficients, timestep = randn(2, 11, seed=2), torch.tensor([900.0, 20.0])
    # Sample 0 is guided by evaluations 2 and 0, sample 1 has evaluation 1 alone.
    owner, bias = torch.tensor([0, 1, 0]), torch.tensor([0.3, -1.0, 2.0])
    mix = torch.tensor([[-4.0, 0.0, 5.0], [0.0, 1.0, 0.0]])
    advanced, remembered, predicted = StepGraph(Affine())(
        latents,
        timestep,
        coefficients,
        history,
        noise,
        owner,
        mix,
        torch.zeros(2),
        torch.tensor([2, 1]),
        bias,
    )
    for sample, evaluations in ((0, {0: -4.0, 2: 5.0}), (1, {1: 1.0})):
        row = dict(zip(COLUMNS, coefficients[sample], strict=True))
        x, h1, h2, h3 = latents[sample], *history[sample]
        scaled = row["c_in"] * x
        output = sum(
            weight * (scaled * 0.5 + timestep[sample] * 0.01 + bias[evaluation])
            for evaluation, weight in evaluations.items()
        )
        memory = row["qx"] * x + row["qo"] * output
        expected = row["a"] * x + row["b"] * memory + row["n"] * noise[sample]
        expected = expected + row["c1"] * h1 + row["c2"] * h2 + row["c3"] * h3
        torch.testing.assert_close(predicted[sample], row["px"] * x + row["po"] * output)
        torch.testing.assert_close(advanced[sample], expected)
        torch.testing.assert_close(remembered[sample], torch.stack([memory, h1, h2]))


def test_rescaled_guidance_is_that_of_diffusers() -> None:
    guided, positive = randn(3, 4, 8, 6) * 3, randn(3, 4, 8, 6, seed=1)
    strengths = torch.tensor([0.25, 0.7, 1.0])
    found = rescale_guidance(guided, positive, strengths)
    for sample, strength in enumerate(strengths):
        part = slice(sample, sample + 1)
        expected = rescale_noise_cfg(guided[part], positive[part], float(strength))
        torch.testing.assert_close(found[part], expected, rtol=1e-6, atol=1e-6)


def test_no_rescaling_leaves_every_bit() -> None:
    guided = randn(2, 4, 8, 8) * 5
    assert torch.equal(rescale_guidance(guided, randn(2, 4, 8, 8), torch.zeros(2)), guided)


def test_a_flat_output_is_not_divided_by_zero() -> None:
    flat = torch.full((1, 4, 8, 8), 0.5)
    assert torch.equal(rescale_guidance(flat, randn(1, 4, 8, 8), torch.ones(1)), flat)


FAMILIES = ("tiny_package", "tiny_flux_package", "tiny_chroma_package", "tiny_zimage_package")


@pytest.mark.parametrize("engines", FAMILIES)
def test_every_familys_graph_has_the_stated_inputs_and_outputs(
    engines: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(engines)
    package = load_package(folder, engines.removesuffix("_package"))
    role = package.manifest.roles["denoiser"]
    graph = ir.load(package.file(role.graph)).graph
    shapes = input_shapes(package.manifest.latents.channels)
    found = [value.name for value in graph.inputs]
    assert found[: len(shapes)] == list(shapes)
    assert set(found) == set(role.inputs)
    assert [value.name for value in graph.outputs] == list(OUTPUTS)
    assert {name: role.inputs[name].shape for name in shapes} == shapes
    for name in found[len(shapes) :]:
        assert role.inputs[name].shape[0] == "evaluations"


def test_the_loop_calls_the_graph_with_the_dtypes_that_it_takes(tiny_package: Path) -> None:
    role = load_package(tiny_package, "tiny").manifest.roles["denoiser"]
    row = Row(0, 999.0, np.zeros(len(COLUMNS), np.float32), None, (1.0,), 0.0)
    for name, array in row_inputs([row]).items():
        assert array.dtype == role.inputs[name].dtype, name


def test_the_module_takes_its_inputs_in_the_stated_order() -> None:
    arguments = inspect.getfullargspec(StepGraph.forward).args[1:]
    assert arguments == list(input_shapes(channels=4))


@pytest.fixture(scope="module")
def inputs(tiny_source: Path) -> dict[str, np.ndarray]:
    role = role_of(tiny_source, "denoiser")
    drawn = role.draw_inputs(
        {"batch": 2, "evaluations": 4, "height": 8, "width": 12, "tokens": 77}, seed=4
    )
    return {name: value.numpy() for name, value in drawn.items()}


@pytest.fixture(scope="module")
def graph(tiny_package: Path) -> Path:
    return tiny_package / "tiny" / "denoiser.onnx"


def test_evaluations_may_come_in_any_order(graph: Path, inputs: dict[str, np.ndarray]) -> None:
    order = np.array([3, 0, 2, 1])
    back = np.argsort(order)
    shuffled = {
        name: value[order] if name in PER_EVALUATION else value for name, value in inputs.items()
    }
    shuffled["mix"] = inputs["mix"][:, order]
    shuffled["positive_evaluation"] = back[inputs["positive_evaluation"]]
    straight, mixed = run_graph(graph, [inputs, shuffled])
    for name, value in straight.items():
        assert output_error(value, mixed[name]) < 1e-5


PER_EVALUATION = {"evaluation_sample", "encoder_hidden_states", "text_embeds", "time_ids"}


def test_an_unguided_sample_costs_one_evaluation_and_is_the_same(
    graph: Path, inputs: dict[str, np.ndarray]
) -> None:
    """A weight of 1 and of 0 give what one evaluation alone gives."""
    both = {**inputs, "guidance_rescale": np.zeros(2, np.float32)}
    both["mix"] = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
    alone = {name: value[:2] if name in PER_EVALUATION else value for name, value in both.items()}
    alone["mix"] = both["mix"][:, :2]
    two, one = run_graph(graph, [both, alone])
    for name, value in one.items():
        assert output_error(value, two[name]) < 1e-5


def test_text_time_and_sizes_all_matter(graph: Path, inputs: dict[str, np.ndarray]) -> None:
    """The tiny model is of use only if each of its inputs changes what it answers."""
    (plain,) = run_graph(graph, [inputs])
    for name in ("encoder_hidden_states", "text_embeds", "time_ids", "timestep"):
        changed = {**inputs, name: inputs[name] * np.float32(0.5) + np.float32(0.1)}
        (other,) = run_graph(graph, [changed])
        assert output_error(plain["predicted"], other["predicted"]) > 0.01, name
