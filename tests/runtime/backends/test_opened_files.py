"""The files that opening reads: of the package's own graphs, and of targets."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.backends.opened_files import opened_files
from runtime.package.hashes import HASHES_NAME
from runtime.package.manifest import ModelPackage, read_package
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target

ROLES = ["denoiser", "preview_decoder", "text_encoder", "text_encoder_2", "vae_decoder"]


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    ignored = shutil.ignore_patterns("targets", HASHES_NAME)
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    return read_package(tmp_path, "demo")


def names(package: ModelPackage, paths: list[Path]) -> list[str]:
    return [path.relative_to(package.path).name for path in paths]


def test_own_graphs_are_opened_with_their_weights_the_denoiser_first(package: ModelPackage) -> None:
    expected = [f"{role}.{kind}" for role in ROLES for kind in ("onnx", "safetensors")]
    assert names(package, opened_files(package, None)) == expected


def test_engines_that_hold_their_weights_are_opened_alone(package: ModelPackage) -> None:
    target = add_target(package.path, Made(backend="tensorrt"))
    assert opened_files(package, target) == [target.engine(role) for role in ROLES]


def test_engines_are_opened_with_the_weights_beside_them_and_without_their_variants(
    package: ModelPackage,
) -> None:
    target = add_target(package.path, Made(backend="onnxruntime-cuda"))
    found = opened_files(package, target)
    assert found[:3] == [
        target.prelude("denoiser"),
        target.engine("denoiser"),
        package.file("denoiser.safetensors"),
    ]
    assert [path.stem for path in found[3:] if path.suffix == ".safetensors"] == ROLES[1:]
    variants = {target.variant("denoiser", "matrices"), target.variant("denoiser", "weights")}
    assert not variants & set(found)


def test_weights_that_lie_elsewhere_are_those_of_the_roles_folder(package: ModelPackage) -> None:
    manifest = package.manifest
    roles = {
        role: replace(record, weights=None, external_folder=f"/models/{role}")
        for role, record in manifest.roles.items()
    }
    record = manifest.files["denoiser.safetensors"]
    external = {f"/models/{role}/{shard}": record for role in ROLES for shard in "12"}
    outside = replace(package, manifest=replace(manifest, roles=roles, external_files=external))
    found = [path for path in opened_files(outside, None) if path.suffix != ".onnx"]
    assert found == [Path(f"/models/{role}/{shard}") for role in ROLES for shard in "12"]
