"""Engines of TensorRT for RTX on a GPU that it does not compile for, as Hopper's."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from runtime.backends.tensorrt.flavour import installed_flavour
from runtime.devices import Gpu
from runtime.errors import BackendError
from tests.gpu.conftest import HERE

ENGINES = HERE.parent.parent / "engines"

OLDER = "sm_80"


@pytest.mark.parametrize("role", ["preview_decoder", "denoiser"])
def test_whether_a_gpu_runs_engines_of_an_older_one(
    role: str, gpu: Gpu, record_property: Callable[[str, object], None]
) -> None:
    """Not asserted but found out: where it does, such targets could be served."""
    try:
        known = installed_flavour("tensorrt-rtx").load().ComputeCapability.__members__
    except BackendError as error:
        pytest.skip(f"not here: {error}")
    if gpu.compute_capability.replace("sm_", "SM") in known:
        pytest.skip(f"it compiles for {gpu.compute_capability} itself")
    command = [sys.executable, "-m", "tests.gpu.older_engine", str(ENGINES), role, OLDER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = f"ended with code {done.returncode}: {done.stderr}" if done.returncode else done.stdout
    record_property(f"{role} of {OLDER} on {gpu.compute_capability}", " ".join(told.split()))
