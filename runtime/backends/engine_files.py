"""A target's files, which threads read and check while the first engines are already opened."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from runtime.backends.rows import row_of
from runtime.errors import PackageError
from runtime.package.manifest import Manifest
from runtime.package.target import Target


class EngineFiles:
    """Checks that every file of each engine is what its target says."""

    def __init__(self, target: Target) -> None:
        """Start to read and check the files, on threads of their own."""
        self._target = target
        pool = ThreadPoolExecutor(thread_name_prefix="engine files")
        self._faults: Mapping[str, Future[str | None]] = {
            role: pool.submit(target.fault, role) for role in target.record.engines
        }
        pool.shutdown(wait=False)

    def checked(self, role: str) -> Path:
        """The path of a role's engine, once its files were checked. Raises PackageError."""
        fault = self._faults[role].result()
        if fault:
            raise PackageError(fault)
        return self._target.engine(role)


def device_bytes(target: Target, manifest: Manifest) -> dict[str, int]:
    """The bytes that the weights of each engine take on the device, by role.

    Running an engine takes more: activations, workspaces.
    """
    beside = row_of(target.record.identity.backend).weights_beside
    return {
        role: engine.graph_bytes + beside * manifest.roles[role].weights_bytes
        for role, engine in target.record.engines.items()
        if role in manifest.roles
    }
