"""A worker on a machine with a GPU that there is not: the fakes stand where CUDA and TensorRT for
RTX are imported from. All else is real: the choice of the target, the link, the pictures.

`python -m tests.fakes.worker` takes a worker's arguments.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import cast

from runtime.worker.main import leave, main
from tests.fakes.cuda import FakeCaptureMode, FakeCuda, FakeError
from tests.fakes.tensorrt import fake_api
from tests.places import ROOT
from tests.runtime.package.targets import Made

NO_GRAPH = "IMAGINED_GPU_REFUSES_A_GRAPH"
"""In the environment: the first CUDA graph cannot be captured."""

FULL = "IMAGINED_GPU_IS_FULL"
"""In the environment: other programs have all of its memory."""


SPOILT_BY = "IMAGINED_GPU_REFUSES_GRAPHS_BESIDE"
"""In the environment: a file; while it is there, no CUDA graph can be captured."""

FATAL = "IMAGINED_GPU_DIES_OF_A_GRAPH"
"""In the environment: whoever launches a CUDA graph is ended, by a library that aborts."""


class _FatalCuda(FakeCuda):
    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[FakeError]:  # noqa: ARG002, N802
        os.abort()


class _SpoilableCuda(FakeCuda):
    def cudaStreamBeginCapture(self, stream: int, mode: FakeCaptureMode) -> tuple[FakeError]:  # noqa: N802
        self._capturable = not Path(os.environ[SPOILT_BY]).exists()
        return super().cudaStreamBeginCapture(stream, mode)


class _FullCuda(FakeCuda):
    def cudaMemGetInfo(self) -> tuple[FakeError, int, int]:  # noqa: N802 - the vendor's name
        code, _, total = super().cudaMemGetInfo()
        return code, 1000, total


def servable(sizes: tuple[tuple[int, int], ...], *, fixed_weights: bool = False) -> Made:
    """A target that such a worker takes."""
    return Made("tensorrt-rtx", version("tensorrt-rtx"), sizes=sizes, fixed_weights=fixed_weights)


def stand_in(folder: Path) -> Path:
    """A program for the place of Python where `-m runtime.worker.main` is started, or another
    module by its name.
    """
    path = folder / "python"
    path.write_text(
        f'#!/bin/sh\ncd "{ROOT}"\n'
        f'[ "$2" = runtime.worker.main ] || exec "{sys.executable}" "$@"\n'
        f'shift 2\nexec "{sys.executable}" -m tests.fakes.worker "$@"\n'
    )
    path.chmod(0o755)
    return path


def _imagined() -> FakeCuda:
    kinds: dict[str, type[FakeCuda]] = {
        FULL: _FullCuda,
        FATAL: _FatalCuda,
        SPOILT_BY: _SpoilableCuda,
    }
    kind = next((kinds[name] for name in kinds if name in os.environ), FakeCuda)
    return kind(capturable=NO_GRAPH not in os.environ)


def imagine() -> None:
    """Let this process import the fakes from where it would import CUDA and TensorRT for RTX."""
    cuda = _imagined()
    fakes = {
        "cuda.bindings.runtime": cuda,
        "cuda.bindings.driver": cuda,
        "tensorrt_rtx": fake_api(cuda),
    }
    sys.modules.update(cast("dict[str, ModuleType]", fakes))


if __name__ == "__main__":
    imagine()
    leave(main())
