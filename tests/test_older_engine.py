"""Whether a GPU runs an older one's engines: that much of the question as needs no GPU."""

import shutil
from pathlib import Path

import pytest

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.cuda_fake import FakeCuda
from runtime.backends.tensorrt.fake import fake_api
from runtime.backends.tensorrt.flavour import Flavour
from runtime.backends.tensorrt.vendor import Vendor, open_vendor
from runtime.manifest import ModelPackage, load_package
from tests.gpu.older_engine import answer, compiled
from tests.runtime.targets import Made, add_target

ROLE = "preview_decoder"


@pytest.fixture
def vendor() -> Vendor:
    """It opens plans of the fake alone, for whatever GPU they are."""
    cuda = FakeCuda()
    flavour = Flavour(
        "tensorrt-rtx", "fake", "1.7.1", True, typed_on_request=False, compiles_at_run_time=True
    )
    return open_vendor(flavour, fake_api(cuda), Cuda(cuda, cuda))


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    """The committed demo model."""
    shutil.copytree(Path(__file__).parent.parent / "engines" / "demo", tmp_path / "demo")
    return load_package(tmp_path, "demo")


def test_an_engine_that_opens_is_run_and_compared(vendor: Vendor, package: ModelPackage) -> None:
    made = Made("tensorrt-rtx", "1.7.1", "sm_80", fixed_weights=True)
    target = add_target(package.path, made)
    assert answer(vendor, package, target, ROLE) == (
        "run: image is off by 0 where the largest is 255"
    )


def test_an_engine_that_does_not_open_is_told_with_the_reason(
    vendor: Vendor, package: ModelPackage, tmp_path: Path
) -> None:
    target = compiled(package, ROLE, "sm_80", tmp_path)
    assert target.engine(ROLE).stat().st_size == target.record.engines[ROLE].content.size_bytes
    found = answer(vendor, package, target, ROLE)
    assert found.startswith(f"refused: {target.engine(ROLE)}: tensorrt-rtx")
    assert found.endswith("cannot open it: the plan is none of mine")
