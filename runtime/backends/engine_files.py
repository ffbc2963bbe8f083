"""A target's files: read and checked ahead, while engines are opened already."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from runtime.errors import PackageError
from runtime.package.target import Target


class EngineFiles:
    """Checks that every file of each engine is what its target says."""

    def __init__(self, target: Target) -> None:
        """From here on the files are read, on threads of their own."""
        self._target = target
        pool = ThreadPoolExecutor(thread_name_prefix="engine files")
        self._faults: Mapping[str, Future[str | None]] = {
            role: pool.submit(target.fault, role) for role in target.record.engines
        }
        pool.shutdown(wait=False)

    def checked(self, role: str) -> Path:
        """A role's engine, once its files were read. Raises PackageError for a damaged one."""
        fault = self._faults[role].result()
        if fault:
            raise PackageError(fault)
        return self._target.engine(role)
