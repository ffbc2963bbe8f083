"""Tests that need a GPU: marked `gpu`, and skipped with the reason where there is none.

`python -m scripts.gpu_check` runs them and ends with a table of what ran and what was not there.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.catalog import Choice, choose, installed_version, open_backend
from runtime.devices import Devices, Gpu, find_devices
from runtime.errors import BackendError
from runtime.generate import Generator
from runtime.model import Model, open_model
from runtime.served import served_by
from runtime.target import BACKENDS, BackendName

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    devices = find_devices()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if devices.first is None:
                item.add_marker(pytest.mark.skip(reason=f"no GPU: {devices.reason}"))


@dataclass(frozen=True)
class Compiled:
    """A model with a verified target of one backend."""

    engines: Path
    model: Model
    choice: Choice

    def generator(self) -> Generator:
        """Its engines, opened."""
        served = served_by(self.choice.target, self.model.package.manifest)
        backend = open_backend(self.model.package, self.choice)
        return Generator(self.model, backend, served=served)


def compiled(engines: Path, name: str, backend: BackendName, sizes: str) -> Compiled:
    """Compile and verify a target with the command that people use, and choose it.

    Skips for a GPU that the backend's compiler does not know.
    """
    command = [sys.executable, "-m", "engine_build", "compile", name, "--engines", str(engines)]
    command += ["--backend", backend, "--sizes", sizes, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "does not compile for" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return chosen(engines, name, backend)


def chosen(engines: Path, name: str, backend: BackendName) -> Compiled:
    """A model with the target that is served."""
    model = open_model(engines, name)
    return Compiled(engines, model, choose(model.package, backend, find_devices()))


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The GPU that engines run on."""
    devices: Devices = find_devices()
    assert devices.first is not None
    return devices.first


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> BackendName:
    """Each backend that is installed."""
    name: BackendName = request.param
    try:
        installed_version(name)
    except BackendError as error:
        pytest.skip(f"not here: {error}")
    return name


@pytest.fixture(scope="session")
def demo(
    backend: BackendName, lora_engines: Path, tmp_path_factory: pytest.TempPathFactory
) -> Compiled:
    """The committed demo model with LoRAs, compiled for 128x128."""
    engines = tmp_path_factory.mktemp(backend)
    shutil.copytree(lora_engines / "demo", engines / "demo")
    return compiled(engines, "demo", backend, "128x128")
