"""A network too large to be checked whole is checked at reduced size, by the same exporter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine_build.export.role import Reduced, RoleExport
from engine_build.quiet import quiet
from engine_build.reduced import check_reduced, check_role
from runtime.errors import BuildError
from tests.engine_build.roles import role_of

SETTINGS = {"num_hidden_layers": 2, "intermediate_size": 16}


def reducible(role: RoleExport, **changes: Any) -> tuple[RoleExport, Reduced]:
    """A text encoder that can be made smaller; `changes` are made to the small one alone."""
    assert role.reduced is not None
    whole = role.reduced.export
    return role, Reduced(SETTINGS, lambda component: replace(whole(component), **changes))


def test_the_small_network_is_checked_and_its_settings_are_told(tiny_source: Path) -> None:
    role, reduced = reducible(role_of(tiny_source, "text_encoder_2"))
    with quiet():
        check = check_reduced(role, reduced)
    assert check.reduced == SETTINGS
    assert 0 < check.largest_error <= check.tolerance
    assert set(check.outputs) == {"hidden_states", "text_embeds"}


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
        check_reduced(role, reduced)


def test_a_small_network_is_checked_whole(tiny_source: Path, tmp_path: Path) -> None:
    """Its own graph is opened: one that is not there is a failed build."""
    with pytest.raises(BuildError, match="nowhere"):
        check_role(role_of(tiny_source, "text_encoder"), tmp_path / "nowhere.onnx")
