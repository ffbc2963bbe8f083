"""A kept trace gives the graph that a trace gives, and is kept by all that a trace follows from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from torch import nn

from engine_build.package.export.role import RoleExport
from engine_build.package.tracing import TracedGraph, trace
from engine_build.quiet import quiet
from tests.engine_build.package.roles import role_of
from tests.tiny.kept_traces import KeptTraces, key_of


@pytest.fixture
def role(tiny_source: Path) -> RoleExport:
    return role_of(tiny_source, "preview_decoder")


def written(traced: TracedGraph) -> bytes:
    """The file of a graph whose weights have no values."""
    for value in traced.model.graph.initializers.values():
        if value.const_value is None:
            assert value.dtype is not None
            assert isinstance(value.shape, ir.Shape)
            value.const_value = ir.ExternalTensor(
                "weights", 0, 0, value.dtype, shape=value.shape, name=value.name or ""
            )
    return ir.to_proto(traced.model).SerializeToString(deterministic=True)


def test_the_kept_graph_is_the_traced_one_traced_once(role: RoleExport, tmp_path: Path) -> None:
    traced: list[RoleExport] = []

    def counted(role: RoleExport) -> TracedGraph:
        traced.append(role)
        return trace(role)

    with quiet():
        found = [KeptTraces(tmp_path, counted)(role) for _ in range(2)]
        expected = trace(role)
    assert len(traced) == 1
    for each in found:
        assert each.parameters == expected.parameters
        assert all(
            each.model.graph.initializers[name].const_value is None
            for name in each.parameters.values()
        )
        assert written(each) == written(expected)


def other_network(role: RoleExport) -> RoleExport:
    def skeleton() -> nn.Module:
        network = role.skeleton()
        next(part for part in network.modules() if isinstance(part, nn.Conv2d)).stride = (2, 2)
        return network

    return replace(role, skeleton=skeleton)


def other_buffer(role: RoleExport) -> RoleExport:
    def skeleton() -> nn.Module:
        network = role.skeleton()
        for buffer in network.buffers():
            buffer.add_(1)
        return network

    return replace(role, skeleton=skeleton)


def other_axis(role: RoleExport) -> RoleExport:
    inputs = tuple(
        replace(item, axes={at: replace(axis, minimum=2) for at, axis in item.axes.items()})
        for item in role.inputs
    )
    return replace(role, inputs=inputs)


def tied(role: RoleExport) -> RoleExport:
    def wrap(network: Any) -> nn.Module:
        layer = network.encoder.layers[0]
        layer.layer_norm1.weight = layer.layer_norm2.weight
        return role.wrap(network)

    return replace(role, wrap=wrap)


CHANGES: list[tuple[str, Callable[[RoleExport], RoleExport]]] = [
    ("preview_decoder", other_network),
    ("text_encoder", other_buffer),
    ("text_encoder", tied),
    ("preview_decoder", other_axis),
    ("preview_decoder", lambda role: replace(role, outputs=("other",))),
    ("preview_decoder", lambda role: replace(role, traced_at={**role.traced_at, "batch": 7})),
]


@pytest.mark.parametrize(
    ("name", "change"),
    CHANGES,
    ids=["network", "buffer", "tied weights", "axis", "output", "sizes"],
)
def test_another_trace_is_kept_apart(
    tiny_source: Path, name: str, change: Callable[[RoleExport], RoleExport]
) -> None:
    role = role_of(tiny_source, name)
    assert key_of(role) == key_of(role_of(tiny_source, name))
    assert key_of(change(role)) != key_of(role)
