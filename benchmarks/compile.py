"""Measures seconds, memory and disk of compiling the denoiser of a model of published size.

    python -m benchmarks.build_memory sdxl --engines FOLDER
    python -m benchmarks.compile measured --engines FOLDER --gpu sm_89

TensorRT for RTX compiles, which needs no GPU, in a process of its own, as in `engine-build
compile`. The engine is written into the package's folder, measured and removed.
"""

import json
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil

from benchmarks.frame import RESULTS, Figure, benchmark_parser, keep
from engine_build.target.profiles import Tuning
from engine_build.target.targets import Wanted, target_identity
from engine_build.target.tensorrt.engine import engine_job
from engine_build.target.tensorrt.job import Phase
from engine_build.target.tensorrt.process import run_job
from runtime.backends.tensorrt.flavour import installed_flavour
from runtime.package.manifest import load_package

BACKEND: Final = "tensorrt-rtx"
_PAUSE = 0.1


class Watch:
    """Sampler of the largest memory of this process's children, with and without mapped files."""

    def __init__(self) -> None:
        self.resident_gb = 0.0
        self.anonymous_gb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE):
            for child in psutil.Process().children():
                try:
                    memory = child.memory_info()
                except psutil.NoSuchProcess:
                    continue
                self.resident_gb = max(self.resident_gb, memory.rss / 1e9)
                self.anonymous_gb = max(self.anonymous_gb, (memory.rss - memory.shared) / 1e9)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("name", help="the package")
    parser.add_argument("--engines", type=Path, required=True, metavar="DIR")
    parser.add_argument("--gpu", default="sm_89")
    parser.add_argument("--size", type=int, default=1024, help="of a square picture, in pixels")
    arguments = parser.parse_args()
    package = load_package(arguments.engines, arguments.name)
    wanted = Wanted(
        backend=BACKEND,
        compute_capability=arguments.gpu,
        served=Tuning(((arguments.size, arguments.size),), max_batch=1),
        fixed_weights=True,
    )
    version = installed_flavour(BACKEND).version
    identity = target_identity(package.manifest, wanted, version)
    heard: dict[str, float] = {}
    with TemporaryDirectory(dir=package.path) as folder, Watch() as watch:
        job = engine_job(package, identity, "denoiser", Path(folder))
        started = time.monotonic()

        def progress(phase: Phase) -> None:
            if phase.name not in heard:
                heard[phase.name] = round(time.monotonic() - started, 1)
                print(f"{heard[phase.name]:8.1f} s  {phase.name}", flush=True)

        compiled = run_job(job, progress)
        size = Path(job.engine).stat().st_size
    result: dict[str, Any] = {
        "model": package.manifest.family,
        "role": "denoiser",
        "backend": f"{BACKEND} {version}",
        "gpu": arguments.gpu,
        "precision": identity.engines["denoiser"].precision,
        "profiles": len(job.profiles),
        "size": f"{arguments.size}x{arguments.size}",
        "weights_gb": round(package.manifest.roles["denoiser"].weights_bytes / 1e9, 2),
        "seconds": compiled.seconds,
        "peak_resident_gb": round(max(watch.resident_gb, compiled.peak_gb), 2),
        "peak_anonymous_gb": round(watch.anonymous_gb, 2),
        "engine_gb": round(size / 1e9, 2),
        "phases_begun_at_seconds": heard,
    }
    print(json.dumps(result, indent=1))
    output = arguments.output or RESULTS / f"compile_{package.manifest.family}_{arguments.gpu}.json"
    figures = {
        "compilation": Figure("s", (compiled.seconds,)),
        "resident memory at most": Figure("GB", (result["peak_resident_gb"],)),
        "engine": Figure("GB", (result["engine_gb"],)),
    }
    keep(result, output, figures)


if __name__ == "__main__":
    main()
