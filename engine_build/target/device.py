"""A target's engines on this machine's GPU, as verification calls and times them."""

from pathlib import Path

from engine_build.target.verify import Opener
from runtime.backends.catalog import Choice, open_backend
from runtime.backends.device.engine import HostArrayEngine
from runtime.backends.devices import Gpu
from runtime.backends.protocol import Backend
from runtime.package.manifest import ModelPackage
from runtime.package.target import Target


def device_opener(package: ModelPackage, gpu: Gpu) -> Opener:
    """An Opener that opens engines as the server does. Calls of the Opener raise BackendError and
    PackageError."""
    backends: dict[Path, Backend] = {}

    def opened(target: Target, role: str) -> HostArrayEngine:
        if target.path not in backends:
            choice = Choice(target.record.identity.backend, target, gpu, note="to be verified")
            backends[target.path] = open_backend(package, choice)
        engine = backends[target.path].open(role)
        assert isinstance(engine, HostArrayEngine), "a target's engines are on a device"
        return engine

    return opened
