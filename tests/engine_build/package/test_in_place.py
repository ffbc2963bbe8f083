"""Weights that stay where they are, and those that become the package's own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine_build.checkpoint.weights import StoredTensor, read_header
from engine_build.cli import run
from engine_build.package.build import BuildRequest, build_package
from engine_build.package.placing import check_space, clone, copied, in_place, whole_file
from runtime.errors import BuildError, PackageError
from runtime.package.manifest import load_package
from tests.parity import generator_of, ours

BODY = {
    "prompt": "a photo of a red apple",
    "width": 64,
    "height": 96,
    "steps": 3,
    "seed": 3,
    "sampler": "euler",
}


@pytest.fixture(scope="module")
def linked_source(sharded_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a download cache lays it out: every weight file is a link into a folder of blobs."""
    folder = tmp_path_factory.mktemp("cache")
    source = Path(shutil.copytree(sharded_source, folder / "source"))
    (folder / "blobs").mkdir()
    for file in source.rglob("*.safetensors"):
        blob = folder / "blobs" / f"{file.parent.name}-{file.name}"
        file.rename(blob)
        file.symlink_to(blob)
    return source


@pytest.fixture(scope="module")
def external_package(linked_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engines folder with the package `external`."""
    engines = tmp_path_factory.mktemp("engines")
    request = BuildRequest(linked_source, "external", engines, in_place=True)
    build_package(request, show_progress=False)
    return engines


def test_weights_in_place_draw_the_same_picture(
    external_package: Path, rounded_package: Path
) -> None:
    found = ours(generator_of(external_package, "external"), BODY)
    expected = ours(generator_of(rounded_package, "rounded"), BODY)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_a_package_without_weights_of_its_own_says_where_they_are(
    external_package: Path, linked_source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = sorted(str(path) for path in (linked_source.parent / "blobs").iterdir())
    manifest = load_package(external_package, "external").manifest
    assert list(manifest.external_files) == blobs
    assert not list((external_package / "external").glob("*.safetensors"))
    for record in manifest.roles.values():
        assert record.weights is None
        assert record.external_folder == str(linked_source.parent / "blobs")
    assert run(["inspect", "external", "--engines", str(external_package)]) == 0
    shown = capsys.readouterr().out
    assert all(blob in shown for blob in blobs)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [(spoil, "changed, sha256"), (Path.unlink, "gone")],
    ids=["changed", "gone"],
)
def test_a_source_that_is_no_more_what_it_was_is_named(
    external_package: Path, linked_source: Path, tmp_path: Path, harm: object, message: str
) -> None:
    blob = min((linked_source.parent / "blobs").iterdir())
    kept = shutil.copy(blob, tmp_path / "kept")
    assert callable(harm)
    harm(blob)
    try:
        with pytest.raises(PackageError, match=rf"{blob.name}: {message}"):
            load_package(external_package, "external")
    finally:
        shutil.copy(kept, blob)
    load_package(external_package, "external")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}, path)
    return path


def weights_of(file: Path) -> dict[str, tuple[str, StoredTensor]]:
    return {f"parameter.{name}": (name, tensor) for name, tensor in read_header(file).items()}


def test_weights_of_one_network_in_two_folders_cannot_stay(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = shutil.copy(file, tmp_path / "other" / "model.safetensors")
    weights = {**weights_of(file), "c": ("c", read_header(Path(other))["a"])}
    with pytest.raises(BuildError, match=r"several folders cannot be left in place.*--in-place"):
        in_place(weights)


def test_a_file_is_whole_only_with_all_of_its_tensors_under_their_own_names(file: Path) -> None:
    weights = weights_of(file)
    assert whole_file(weights) == file
    first = weights["parameter.a"][1]
    assert whole_file({**weights, "parameter.a": ("renamed", first)}) is None
    assert whole_file({**weights, "parameter.a": ("a", first.transposed())}) is None
    assert whole_file({"parameter.a": ("a", first)}) is None


def test_a_clone_is_the_same_file_or_nothing(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "clone.safetensors"
    if clone(file, target):
        assert target.read_bytes() == file.read_bytes()
    else:
        assert not target.exists()


def test_copied_weights_are_a_file_of_the_package(file: Path, tmp_path: Path) -> None:
    placed = copied(weights_of(file), tmp_path / "copy.safetensors", lambda _: None)
    assert (placed.own, placed.folder) == ("copy.safetensors", tmp_path)
    assert placed.external_folder is None
    assert not placed.external_files
    for name, tensor in load_file(file).items():
        assert torch.equal(load_file(tmp_path / "copy.safetensors")[name], tensor)


def test_a_disk_that_is_too_small_says_what_is_needed_and_what_is_there(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(
        BuildError, match=r"take 1000000\.00 GB, but \d+\.\d\d GB are free .*--in-pl"
    ):
        check_space(tmp_path, 10**15)
