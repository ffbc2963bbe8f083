"""How far a graph is from PyTorch, and when that is too far."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine_build.package.tolerances import GRAPH_PICTURE
from engine_build.package.verify import check_graph, output_error, run_graph
from runtime.errors import BuildError
from tests.engine_build.package.roles import export, role_of

VALUES = np.array([[3.0, -4.0], [0.5, 0.0]], np.float32)


def test_errors_are_relative_to_the_largest_magnitude() -> None:
    assert output_error(VALUES, VALUES) == 0
    assert output_error(VALUES, VALUES + np.float32(0.5)) == pytest.approx(0.125)


@pytest.mark.parametrize(
    "found",
    [VALUES[:1], VALUES.astype(np.float64), np.where(VALUES == 3, np.nan, VALUES)],
    ids=["shape", "dtype", "not a number"],
)
def test_what_cannot_be_compared_is_infinitely_far(found: np.ndarray) -> None:
    assert output_error(VALUES, found) == float("inf")


def test_an_output_of_zeros_proves_nothing() -> None:
    assert output_error(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)) == float("inf")


@pytest.mark.parametrize(("levels", "share", "passes"), [(1, 1.0, True), (9, 0.0005, True)])
def test_pictures_may_round_otherwise(levels: int, share: float, passes: bool) -> None:
    assert (picture_error(levels, share) <= GRAPH_PICTURE) is passes


@pytest.mark.parametrize(("levels", "share"), [(2, 1.0), (2, 0.01)])
def test_pictures_may_not_differ(levels: int, share: float) -> None:
    assert picture_error(levels, share) > GRAPH_PICTURE


def picture_error(levels: int, share: float) -> float:
    """The error of a picture in which a share of the values is so many levels off."""
    picture = np.full(100_000, 100, np.uint8)
    other = picture.copy()
    other[: round(share * len(other))] += np.uint8(levels)
    return output_error(picture, other)


@pytest.fixture
def graph(tiny_source: Path, tmp_path: Path) -> Path:
    return export(role_of(tiny_source, "preview_decoder"), tmp_path)


def spoil(graph: Path, change: float) -> None:
    weights = graph.parent / "weights.safetensors"
    tensors = load_file(weights)
    name = "decoder.layers.0.weight"
    tensors[name] = tensors[name] * np.float32(change)
    save_file(tensors, weights)


def test_a_graph_with_other_weights_does_not_pass(tiny_source: Path, graph: Path) -> None:
    role = role_of(tiny_source, "preview_decoder")
    assert check_graph(role, graph).largest_error <= GRAPH_PICTURE
    spoil(graph, 1.5)
    with pytest.raises(
        BuildError, match="preview_decoder: the graph does not match PyTorch: image"
    ):
        check_graph(role, graph)


def test_a_graph_that_cannot_be_opened_is_a_failed_build(graph: Path) -> None:
    (graph.parent / "weights.safetensors").unlink()
    with pytest.raises(BuildError, match="ONNX Runtime cannot run it"):
        run_graph(graph, [])


def test_inputs_that_the_graph_does_not_read_are_named(graph: Path) -> None:
    latents = np.zeros((1, 4, 8, 8), np.float32)
    with pytest.raises(BuildError, match=r"unused .*'layer'"):
        run_graph(graph, [{"latents": latents, "layer": np.zeros(1, np.int64)}])
