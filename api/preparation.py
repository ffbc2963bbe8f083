"""Makes a target ready while the server serves by what there is, and moves over to it.

One that is missing is compiled where `--compile` asks for it; one that was compiled where there was
no GPU is verified when it is first met on its GPU.

The build stage is a program of its own to the server: a command that runs at low priority.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from api.settings import Settings
from runtime.backends.catalog import BackendWish, Choice, awaiting_verification, choose
from runtime.backends.devices import Devices, find_devices
from runtime.backends.rows import CPU
from runtime.errors import BackendError, CalotypeError
from runtime.package.manifest import ModelPackage

LOWEST_PRIORITY = 19

logger = logging.getLogger(__name__)


class Renewable(Protocol):
    """What is asked of the supervisor."""

    def tell(self, sentence: str) -> None:
        """What is to be said with the engine in use, in the place of what was told before."""
        ...

    async def renew(self, backend: BackendWish) -> None:
        """Replace the worker, between two jobs, by one that draws with this backend.

        Raises WorkerFailed where nothing serves.
        """
        ...


@dataclass(frozen=True, slots=True)
class Preparation:
    """A command that makes a target ready, and what to serve with then."""

    title: str
    """What the command does."""
    command: Sequence[str]
    backend: BackendWish
    choice: Callable[[], Choice]
    """What there is to serve with now. Raises BackendError for what was asked for and is not."""

    @asynccontextmanager
    async def beside(self, workers: Renewable) -> AsyncIterator[None]:
        """Let it run while the body does; what is not finished then is interrupted, and goes on
        where it was when it is begun again.
        """
        running = asyncio.create_task(self.run(workers))
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def run(self, workers: Renewable) -> None:
        """Do it, and move over where a target came of it. What did not is told with the engine that
        goes on serving, and logged.
        """
        command = " ".join(self.command)
        logger.info("%s in the background: %s", self.title, command)
        workers.tell(f"{self.title} in the background: {command}")
        try:
            choice = await self._chosen()
            workers.tell("")
            logger.info("moving over to %s between two jobs", choice.target_name)
            await workers.renew(self.backend)
        except (CalotypeError, OSError) as error:
            workers.tell(f"{self.title} {error}")
            logger.error("%s %s; serving goes on", self.title, error)  # noqa: TRY400

    async def _chosen(self) -> Choice:
        """Run the command; the choice that it made possible. Raises BackendError for none."""
        code, last = await self._command()
        if code != 0:
            raise BackendError(f"failed (code {code}): {last}")
        try:
            choice = await asyncio.to_thread(self.choice)
        except BackendError as error:
            raise BackendError(f"is done, and yet {error}") from error
        if choice.target is None:
            raise BackendError(f"is done, and yet: {choice.note}")
        return choice

    async def _command(self) -> tuple[int, str]:
        """Run the command; returns its code and the last line that it said."""
        process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            # A session of its own: Ctrl-C in a terminal is for the server.
            start_new_session=True,
        )
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
        last = ""
        try:
            assert process.stderr is not None
            async for line in process.stderr:
                last = line.decode(errors="replace").strip() or last
            return await process.wait(), last
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()


def missing_target(
    settings: Settings, package: ModelPackage, devices: Devices
) -> Preparation | None:
    """What compiles the target that is missing; None where none is.

    Raises BackendError where nothing could be compiled for.
    """
    if settings.backend == CPU:
        raise BackendError(f"--compile has nothing to compile: --backend {CPU} needs no target")
    if devices.first is None:
        raise BackendError(f"--compile has nothing to compile for: {devices.reason}")
    with suppress(BackendError):
        if choose(package, settings.backend, devices).target is not None:
            return None
    command = [sys.executable, "-m", "engine_build", "compile", package.manifest.name]
    command += ["--engines", str(settings.engines), "--quiet"]
    if settings.backend != "auto":
        command += ["--backend", settings.backend]
    return Preparation("compiling", command, settings.backend, _choice(settings, package))


def unverified_target(
    settings: Settings, package: ModelPackage, devices: Devices
) -> Preparation | None:
    """What verifies a target that has never run on its GPU, where there is no other to serve with.

    None where there is nothing to verify. Raises BackendError for a backend that was asked for by
    name and cannot be had.
    """
    if choose(package, settings.backend, devices).target is not None:
        return None
    target = awaiting_verification(package, settings.backend, devices)
    if target is None:
        return None
    command = [sys.executable, "-m", "engine_build", "verify", package.manifest.name, target.name]
    command += ["--engines", str(settings.engines)]
    return Preparation("verifying", command, settings.backend, _choice(settings, package))


def _choice(settings: Settings, package: ModelPackage) -> Callable[[], Choice]:
    return lambda: choose(package, settings.backend, find_devices())
