"""Preparation of a target while the server draws with another backend, and the move to the target.

A missing target is compiled where `--compile` asks for that; a target that was compiled without a
GPU is verified when the server first meets that target's GPU.

The server runs the build stage as a separate command, at low priority.
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
from runtime.backends.catalog import Choice, awaiting_verification, choose
from runtime.backends.cpu_choice import WITHOUT_TARGET
from runtime.backends.devices import Devices, find_devices
from runtime.backends.wishes import BackendWish
from runtime.errors import BackendError, CalotypeError
from runtime.package.manifest import ModelPackage

LOWEST_PRIORITY = 19

logger = logging.getLogger(__name__)


class Renewable(Protocol):
    """The supervisor, as a preparation calls it."""

    def tell(self, sentence: str) -> None:
        """From now on add this sentence to the engine's note, in the place of the one before."""
        ...

    async def renew(self, backend: BackendWish) -> None:
        """Replace the worker, between two jobs, by one that draws with this backend.

        Raises WorkerFailed where nothing serves.
        """
        ...


@dataclass(frozen=True, slots=True)
class Preparation:
    """A command that makes a target ready, and the backend to serve with afterwards."""

    title: str
    """The command's work as a participle: "compiling", "verifying"."""
    command: Sequence[str]
    backend: BackendWish
    choice: Callable[[], Choice]
    """Chooses what to serve with now. Raises BackendError where the wanted backend cannot run."""

    @asynccontextmanager
    async def beside(self, workers: Renewable) -> AsyncIterator[None]:
        """Run the preparation while the body runs, and interrupt it at the end of the body.

        An interrupted command resumes its work when the next server starts it again.
        """
        running = asyncio.create_task(self.run(workers))
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def run(self, workers: Renewable) -> None:
        """Run the command, and move the workers over to the target that it made ready.

        A failure is logged and told in the note of the engine that goes on serving.
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
        """Run the command; returns the choice of its target. Raises BackendError for none."""
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
        """Run the command; returns its exit code and the last line of its stderr."""
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
    """The compilation of a missing target; None where there is a target to serve with.

    Raises BackendError for a backend or a machine that takes no target.
    """
    if settings.backend in WITHOUT_TARGET:
        given = f"--backend {settings.backend}"
        raise BackendError(f"--compile has nothing to compile: {given} needs no target")
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
    """The verification of a target that has never run on its GPU.

    None where there is another target to serve with, or none to verify. Raises BackendError for a
    backend that was asked for by name and cannot run.
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
