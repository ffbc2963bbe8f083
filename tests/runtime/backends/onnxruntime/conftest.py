"""The demo model with LoRAs, and a target of it for the fake provider."""

import shutil
from pathlib import Path

import pytest

from runtime.package.target import Target
from runtime.plan.model import Model, open_model
from tests.runtime.package.targets import Made, add_target


@pytest.fixture(scope="module")
def model(lora_engines: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("engines")
    shutil.copytree(lora_engines / "demo", folder / "demo")
    return open_model(folder, "demo")


@pytest.fixture(scope="module")
def target(model: Model) -> Target:
    return add_target(model.package.path, Made(backend="onnxruntime-cuda", sizes=((64, 64),)))
