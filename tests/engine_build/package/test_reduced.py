"""A network too large to be checked whole is checked at reduced size, by the same exporter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine_build.checkpoint.weights import match_parameters
from engine_build.package.export.role import Reduced, RoleExport
from engine_build.package.placing import PlacedWeights, copied, in_place
from engine_build.package.reduced import check_narrow, check_reduced, check_role
from engine_build.package.tracing import parameter_shapes
from engine_build.quiet import quiet
from runtime.errors import BuildError
from tests.engine_build.package.roles import role_of

SETTINGS = {"num_hidden_layers": 2, "intermediate_size": 16}
BLOCK = {"num_hidden_layers": 1}


def reducible(role: RoleExport, **changes: Any) -> tuple[RoleExport, Reduced]:
    """A text encoder that can be made smaller; `changes` are made to the small one alone."""
    assert role.reduced is not None
    whole = role.reduced.export
    return role, Reduced(SETTINGS, lambda component: replace(whole(component), **changes), (BLOCK,))


def placed_in(folder: Path, role: RoleExport) -> PlacedWeights:
    """The role's weights as a package of its own would have them."""
    checkpoint = role.component.checkpoint
    weights = match_parameters(parameter_shapes(role), role.parameter_names, checkpoint)
    return copied(weights, folder / f"{role.role}.safetensors", lambda _: None)


def test_what_was_checked_is_told(tiny_source: Path, tmp_path: Path) -> None:
    role, reduced = reducible(role_of(tiny_source, "text_encoder_2"))
    with quiet():
        check = check_reduced(role, reduced, placed_in(tmp_path, role))
    assert check.reduced == {"random weights": SETTINGS, "own weights": [BLOCK]}
    assert 0 < check.largest_error <= check.tolerance
    assert set(check.outputs) == {"hidden_states", "text_embeds"}


def test_a_tensor_that_is_not_the_checkpoint_s_is_found(tiny_source: Path, tmp_path: Path) -> None:
    role, reduced = reducible(role_of(tiny_source, "text_encoder_2"))
    placed = placed_in(tmp_path, role)
    _, tensor = placed.weights["text_model.encoder.layers.0.mlp.fc1.weight"]
    with tensor.path.open("r+b") as file:
        file.seek(tensor.offset)
        file.write(bytes(tensor.size_bytes))
    with quiet(), pytest.raises(BuildError, match="does not match PyTorch"):
        check_reduced(role, reduced, placed)


BLOCKS = [
    ("tiny_source", "text_encoder"),
    ("tiny_source", "text_encoder_2"),
    ("tiny_source", "denoiser"),
    ("tiny_flux_source", "text_encoder"),
    ("tiny_flux_source", "text_encoder_2"),
    ("tiny_flux_source", "denoiser"),
    ("tiny_chroma_source", "denoiser"),
    ("tiny_zimage_source", "text_encoder"),
    ("tiny_zimage_source", "denoiser"),
]


@pytest.mark.parametrize(("source", "name"), BLOCKS)
def test_every_large_role_has_blocks_of_its_own_weights(
    request: pytest.FixtureRequest, source: str, name: str
) -> None:
    """Their parameters are some of the whole network's: none is missing, none has another shape."""
    role = role_of(request.getfixturevalue(source), name)
    assert role.reduced is not None
    assert role.reduced.blocks
    whole = parameter_shapes(role)
    for settings in role.reduced.blocks:
        component = role.component
        block = role.reduced.export(replace(component, config={**component.config, **settings}))
        shapes = parameter_shapes(block)
        assert shapes.items() <= whole.items()
        assert len(shapes) < len(whole)


def test_blocks_of_a_transformer_are_those_of_the_checkpoint(tiny_flux_source: Path) -> None:
    role = role_of(tiny_flux_source, "denoiser")
    weights = match_parameters(
        parameter_shapes(role), role.parameter_names, role.component.checkpoint
    )
    assert role.reduced is not None
    reduced = replace(role.reduced, settings={"num_layers": 1, "num_single_layers": 1})
    with quiet():
        check = check_reduced(role, reduced, in_place(weights))
    assert 0 < check.largest_error <= check.tolerance


class OtherWhenExported(nn.Module):
    """Wraps a network so that its graph is not what PyTorch computes."""

    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped

    def forward(self, *inputs: torch.Tensor) -> Any:
        hidden_states, text_embeds = self.wrapped(*inputs)
        if torch.compiler.is_exporting():
            hidden_states = hidden_states * 1.01
        return hidden_states, text_embeds


def test_a_graph_that_differs_from_pytorch_is_refused(tiny_source: Path) -> None:
    whole = role_of(tiny_source, "text_encoder_2")
    role, reduced = reducible(whole, wrap=lambda network: OtherWhenExported(whole.wrap(network)))
    with quiet(), pytest.raises(BuildError, match="does not match PyTorch: hidden_states"):
        check_narrow(role, reduced)


def test_a_small_network_is_checked_whole(tiny_source: Path, tmp_path: Path) -> None:
    """Its own graph is opened: one that is not there is a failed build."""
    role = role_of(tiny_source, "text_encoder")
    with pytest.raises(BuildError, match="nowhere"):
        check_role(role, tmp_path / "nowhere.onnx", placed_in(tmp_path, role))
