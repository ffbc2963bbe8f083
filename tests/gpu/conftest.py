"""Tests that need a GPU: marked `gpu`, and skipped with the reason where there is none.

`python -m scripts.gpu_check` runs them and ends with a table of what ran and what was not there. It
names a folder of packages, and leaves out what is around this folder: PyTorch is not imported then.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.backends.catalog import Choice, choose, open_backend
from runtime.backends.device.cuda import Cuda
from runtime.backends.devices import Devices, Gpu, find_devices
from runtime.backends.rows import TARGET_BACKENDS, BackendRow
from runtime.draw.generate import Generator
from runtime.errors import BackendError, CalotypeError
from runtime.package.backend_name import BackendName
from runtime.plan.model import Model, open_model
from runtime.plan.served import served_by
from scripts.gpu_report import end_without_device, stage
from tests.tiny.packages import DEMO, ENGINES, FAMILIES, PACKAGES, build, missing

HERE = Path(__file__).parent

SIZES = {DEMO: "128x128", **dict.fromkeys(FAMILIES, "64x96")}
"""Width and height in pixels that each package is compiled for."""

THREADS = 3
"""Some that a compiler has work for: so many cores for each that runs beside the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    devices = find_devices()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if devices.first is None:
                item.add_marker(pytest.mark.skip(reason=f"no GPU: {devices.reason}"))


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """End the process behind a test that broke the device for it, such as by an illegal access."""
    if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
        try:
            Cuda().memory()
        except CalotypeError as error:
            end_without_device(item.session, item.nodeid, str(error))


@dataclass(frozen=True)
class Compiled:
    """A model with a verified target of one backend."""

    engines: Path
    model: Model
    choice: Choice

    def generator(self, *, captures: bool = True) -> Generator:
        """Its engines, opened; without `captures` nothing runs as a CUDA graph."""
        with stage("open engines"):
            served = served_by(self.choice.target, self.model.package.manifest)
            backend = open_backend(self.model.package, self.choice, captures=captures)
            return Generator(self.model, backend, served=served)


def compiled(engines: Path, name: str, backend: BackendName, sizes: str) -> Compiled:
    """Compile and verify a target with the command that people use, and choose it.

    Skips for a GPU that the backend's compiler does not know.
    """
    command = [sys.executable, "-m", "engine_build", "compile", name, "--engines", str(engines)]
    command += ["--backend", backend, "--sizes", sizes, "--quiet"]
    with stage(f"compile and verify {name}"):
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


@pytest.fixture(scope="session", params=TARGET_BACKENDS, ids=lambda row: row.name)
def backend(request: pytest.FixtureRequest, gpu: Gpu) -> BackendName:
    """Each backend that is installed and runs on this GPU."""
    row: BackendRow = request.param
    try:
        row.installed_version()
    except BackendError as error:
        pytest.skip(f"not here: {error}")
    if fault := row.gpu_fault(gpu.compute_capability):
        pytest.skip(fault)
    return row.name


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every package, as it was built."""
    given = os.environ.get(PACKAGES)
    folder = Path(given) if given else tmp_path_factory.mktemp("packages")
    if not given:
        build(folder, missing(folder))
    assert missing(folder) == [], f"build them with: python -m tests.tiny.packages {folder}"
    return folder


@pytest.fixture(scope="session")
def targets(
    backend: BackendName,
    packages: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Future[Compiled]]]:
    """The packages that this run's tests name, compiled side by side, the demo model first."""
    given = os.environ.get(ENGINES)
    engines = Path(given) / backend if given else tmp_path_factory.mktemp(backend)
    engines.mkdir(exist_ok=True)
    names = [name for name in SIZES if name in _named(request.session.items, backend)]
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // THREADS)) as pool:
        yield {name: pool.submit(_copied, packages, engines, name, backend) for name in names}
        pool.shutdown(cancel_futures=True)


def _named(items: list[pytest.Item], backend: BackendName) -> set[str]:
    """Packages of the tests of one backend: each test's parameter `name`, or the demo model."""
    found = (getattr(item, "callspec", None) for item in items)
    parameters = [each.params for each in found if each is not None]
    rows = [(each["backend"], each) for each in parameters if "backend" in each]
    return {str(each.get("name", DEMO)) for row, each in rows if row.name == backend}


def _copied(packages: Path, engines: Path, name: str, backend: BackendName) -> Compiled:
    if not (engines / name).is_dir():
        unfinished = engines / f".{name}"
        shutil.copytree(packages / name, unfinished, dirs_exist_ok=True)
        unfinished.rename(engines / name)
    return compiled(engines, name, backend, SIZES[name])


@pytest.fixture(scope="session")
def demo(targets: Mapping[str, Future[Compiled]]) -> Compiled:
    """The committed demo model with LoRAs, compiled for 128x128."""
    return targets[DEMO].result()
