"""A worker on a machine with a GPU that there is not: the fakes stand where CUDA and TensorRT for
RTX are imported from. All else is real: the choice of the target, the link, the pictures.

`python -m tests.runtime.imagined_worker` takes a worker's arguments.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import cast

from runtime.backends.device.cuda_fake import FakeCuda
from runtime.backends.tensorrt.fake import fake_api
from runtime.worker_main import main
from tests.runtime.targets import Made

ROOT = Path(__file__).parents[2]

NO_GRAPH = "IMAGINED_GPU_REFUSES_A_GRAPH"
"""In the environment: the first CUDA graph cannot be captured."""


def servable(sizes: tuple[tuple[int, int], ...], *, fixed_weights: bool = False) -> Made:
    """A target that such a worker takes."""
    return Made("tensorrt-rtx", version("tensorrt-rtx"), sizes=sizes, fixed_weights=fixed_weights)


def stand_in(folder: Path) -> Path:
    """A program for the place of Python where a supervisor starts `-m runtime.worker_main`."""
    path = folder / "python"
    path.write_text(
        f'#!/bin/sh\nshift 2\ncd "{ROOT}"\n'
        f'exec "{sys.executable}" -m tests.runtime.imagined_worker "$@"\n'
    )
    path.chmod(0o755)
    return path


def _imagine() -> None:
    cuda = FakeCuda(capturable=NO_GRAPH not in os.environ)
    fakes = {
        "cuda.bindings.runtime": cuda,
        "cuda.bindings.driver": cuda,
        "tensorrt_rtx": fake_api(cuda),
    }
    sys.modules.update(cast("dict[str, ModuleType]", fakes))


if __name__ == "__main__":
    _imagine()
    sys.exit(main())
