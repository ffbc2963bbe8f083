"""A target's engines on this machine's GPU, as verification calls and times them."""

import time
from collections.abc import Mapping

from engine_build.verify_target import Opener
from runtime.backends.cuda import Cuda
from runtime.backends.protocol import Array
from runtime.backends.tensorrt_engine import DeviceEngine, TensorRtEngine
from runtime.backends.tensorrt_flavour import installed_flavour
from runtime.backends.tensorrt_vendor import open_vendor
from runtime.manifest import ModelPackage
from runtime.target import Target


def device_opener(package: ModelPackage, target: Target) -> Opener:
    """Opens engines by the flavour that compiled the target. Raises BackendError."""
    cuda = Cuda()  # Before TensorRT: its runtime ends the process where there is no device.
    flavour = installed_flavour(target.record.identity.backend)
    vendor = open_vendor(flavour, flavour.load(), cuda)

    def opened(of: Target, role: str) -> TimedEngine:
        engine = DeviceEngine(vendor, package, of, role, urgent=True)
        return TimedEngine(engine, TensorRtEngine(engine, package.manifest.roles[role].inputs))

    return opened


class TimedEngine:
    """An engine that says how long its calls take."""

    def __init__(self, device: DeviceEngine, engine: TensorRtEngine) -> None:
        """`engine` is over `device`."""
        self._device = device
        self._engine = engine

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Named arrays of the host in and out. Raises BackendError."""
        return self._engine.run(inputs)

    def milliseconds(self, inputs: Mapping[str, Array]) -> float:
        """How long the device takes for one call on what `run` has uploaded before."""
        call = self._device.call({name: array.shape for name, array in inputs.items()})
        self._device.stream.synchronize()
        started = time.perf_counter()
        call.run()
        self._device.stream.synchronize()
        return 1000 * (time.perf_counter() - started)
