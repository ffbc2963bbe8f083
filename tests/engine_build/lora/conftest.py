"""A package to lay LoRAs on: the committed demo's manifest and graphs, without its weights."""

import shutil
from pathlib import Path

import pytest

from runtime.package.manifest import ModelPackage, read_package, write_manifest
from tests.places import ENGINES


@pytest.fixture
def demo(tmp_path: Path) -> ModelPackage:
    """The demo package without weights and LoRAs, in a folder of the test's own."""
    manifest = read_package(ENGINES, "demo").manifest
    folder = tmp_path / "engines" / "demo"
    folder.mkdir(parents=True)
    write_manifest(folder, manifest)
    for role in manifest.roles.values():
        shutil.copy(ENGINES / "demo" / role.graph, folder)
    return read_package(tmp_path / "engines", "demo")
