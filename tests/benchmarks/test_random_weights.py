"""Weights that are made from names: the same on every machine, in whatever file they lie."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.random_weights import (
    empty,
    fill_hollow,
    is_hollow,
    numbers_bytes,
    stretch,
    weights_of,
    write_header,
)

SHAPES = {"blocks.0.weight": (33, 7, 3), "blocks.0.bias": (33,), "blocks.1.weight": (5, 33)}


def filled(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    folder.mkdir()
    write_header(folder / "model.safetensors", shapes, "F16")
    fill_hollow(folder)
    return load_file(folder / "model.safetensors")


def test_numbers_are_finite_and_differ_between_tensors(tmp_path: Path) -> None:
    found = filled(tmp_path / "a", {"one": (64, 64), "other": (64, 64)})
    for array in found.values():
        assert array.dtype == np.float16
        assert np.isfinite(array).all()
        assert (array > 0).any()
        assert (array < 0).any()
    assert (found["one"] != found["other"]).mean() > 0.9


def test_a_tensor_is_the_same_in_another_file(tmp_path: Path) -> None:
    checkpoint = filled(tmp_path / "checkpoint", SHAPES)
    part = {f"text_model.{name}": SHAPES[name] for name in reversed(SHAPES) if "bias" not in name}
    package = filled(tmp_path / "package", part)
    assert len(package) == 2
    for name, array in package.items():
        np.testing.assert_array_equal(array, checkpoint[name.removeprefix("text_model.")])


def test_a_file_that_was_emptied_is_filled_as_before(tmp_path: Path) -> None:
    filled(tmp_path / "a", SHAPES)
    [path] = weights_of(tmp_path)
    content = path.read_bytes()
    empty(path)
    assert is_hollow(path)
    assert len(content) - path.stat().st_size == numbers_bytes(path) == 2 * (33 * 21 + 33 + 165)
    fill_hollow(tmp_path)
    assert not is_hollow(path)
    assert path.read_bytes() == content


def test_numbers_that_are_there_stay(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"own": np.arange(4, dtype=np.float16)}, path)
    fill_hollow(tmp_path)
    np.testing.assert_array_equal(load_file(path)["own"], np.arange(4))


def test_a_stretched_file_has_its_size_and_zeros(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_header(path, SHAPES, "BF16")
    stretch(path)
    assert not is_hollow(path)
    assert path.read_bytes()[-numbers_bytes(path) :] == bytes(numbers_bytes(path))


def test_other_dtypes_are_refused_by_name(tmp_path: Path) -> None:
    save_file({"wide": np.zeros(4, np.float32)}, tmp_path / "wide.safetensors")
    empty(tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"wide is F32; expected one of F16, BF16"):
        fill_hollow(tmp_path)
