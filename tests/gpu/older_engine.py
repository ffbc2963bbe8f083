"""Says whether this GPU runs an engine of TensorRT for RTX that is for an older one, and how well.

    python -m tests.gpu.older_engine ENGINES ROLE COMPUTE_CAPABILITY

In a process of its own, which the engine may end. Nothing that serves would open it: a target of
another GPU is refused by its record.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from engine_build.progress import Phases
from engine_build.reference import Reference
from engine_build.targets import Wanted, target_identity
from engine_build.tensorrt.engine import TensorRtCompiler
from engine_build.tensorrt.profiles import Served
from runtime.backends.device.cuda import Cuda
from runtime.backends.device.engine import HostArrayEngine
from runtime.backends.protocol import Array
from runtime.backends.tensorrt.engine import TensorRtEngine
from runtime.backends.tensorrt.flavour import installed_flavour
from runtime.backends.tensorrt.vendor import Vendor, open_vendor
from runtime.errors import BackendError
from runtime.manifest import ModelPackage, load_package
from runtime.target import Target, TargetRecord

SIZE = (128, 128)


def compiled(package: ModelPackage, role: str, compute_capability: str, folder: Path) -> Target:
    """A target of one engine, with fixed weights. Needs no GPU. Raises BuildError."""
    compiler = TensorRtCompiler.installed("tensorrt-rtx")
    wanted = Wanted("tensorrt-rtx", compute_capability, Served((SIZE,), 1), fixed_weights=True)
    identity = target_identity(package.manifest, wanted, compiler.version)
    engine = compiler.compile(package, identity, role, folder, Phases(role, shown=False))
    command = wanted.command(package.manifest.name)
    return Target(folder, TargetRecord(identity, {role: engine}, "a test", command))


def answer(vendor: Vendor, package: ModelPackage, target: Target, role: str) -> str:
    """What becomes of it on a real picture's inputs, in words."""
    [first, *_] = Reference(package, [SIZE]).calls[role]
    try:
        engine = TensorRtEngine(vendor, package, target, role, urgent=True)
        inputs = package.manifest.roles[role].inputs
        found = HostArrayEngine(engine, inputs).run(first.inputs)
    except BackendError as error:
        return f"refused: {error}"
    return f"run: {', '.join(_distance(name, found[name], first.outputs[name]) for name in found)}"


def _distance(name: str, found: Array, expected: Array) -> str:
    difference = np.abs(found.astype(np.float64) - expected).max()
    return f"{name} is off by {difference:.3g} where the largest is {np.abs(expected).max():.3g}"


def main() -> None:
    """Compile it, and try."""
    engines, role, compute_capability = sys.argv[1:]
    package = load_package(Path(engines), "demo")
    with tempfile.TemporaryDirectory() as folder:
        target = compiled(package, role, compute_capability, Path(folder))
        flavour = installed_flavour("tensorrt-rtx")
        vendor = open_vendor(flavour, flavour.load(), Cuda())
        print(answer(vendor, package, target, role))


if __name__ == "__main__":
    main()
