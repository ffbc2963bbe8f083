"""Room for pictures in the data folder: looked at all the time, since a full disk is no reason to
draw pictures that cannot be saved, or to fail a job.

A file of BALLAST_BYTES is given up when the database has no room left for a deletion, which makes
room, or for opening it at a start.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from runtime.errors import CalotypeError

LOOK_SECONDS = 1.0
"""Seconds from one look to the next."""
UNSAVED_SECONDS = 10.0
"""Seconds for which no picture is drawn after one that could not be saved, whatever looks say."""
BALLAST_BYTES = 4 * 2**20
BALLAST = "ballast"
_PROBE = ".room.tmp"
_MEGABYTE = 2**20


class NoRoom(CalotypeError):
    """The data folder takes nothing more for now. The caller may try again when there is room."""


class Disk:
    """The disk of a data folder; the folder is there."""

    def __init__(self, data: Path, reserve_bytes: int) -> None:
        """`reserve_bytes`: what is kept free. Nothing is looked at yet."""
        self._folders = (data, data / "images", data / "thumbs")
        self._ballast = data / BALLAST
        self._reserve = reserve_bytes
        self._unsaved_until = 0.0
        self.fault = ""
        """The reason why no picture can be saved now, with the remedy; empty where one can."""

    def look(self) -> str:
        """The fault as it is now; puts the ballast back where there is room for it."""
        # Ballast that was given up is missing from what is kept free.
        kept = self._reserve + (0 if self._ballast.exists() else BALLAST_BYTES)
        fault = next(filter(None, (self._fault_of(each, kept) for each in self._folders)), "")
        if not fault:
            self._refill()
        return fault

    def unsaved(self, reason: str) -> None:
        """A picture could not be saved, for this reason."""
        self._unsaved_until = asyncio.get_running_loop().time() + UNSAVED_SECONDS
        self.fault = f"a picture could not be saved ({reason}); free some room, or mend the folder"

    def give_up_ballast(self) -> bool:
        """Make a little room; False where there is none to make."""
        try:
            self._ballast.unlink()
        except OSError:
            return False
        return True

    async def watch(self, mended: Callable[[], None]) -> None:
        """Look all the time; `mended` is called when a fault is gone. Ends by being canceled."""
        loop = asyncio.get_running_loop()
        while True:
            fault = await asyncio.to_thread(self.look)
            if fault or loop.time() >= self._unsaved_until:
                before, self.fault = self.fault, fault
                if before and not fault:
                    mended()
            await asyncio.sleep(LOOK_SECONDS)

    def _fault_of(self, folder: Path, kept: int) -> str:
        # Its name and no more: callers learn nothing about this machine's folders.
        shown = "the data folder" if folder == self._folders[0] else f"the folder {folder.name}"
        try:
            state = os.statvfs(folder)
            free = state.f_bavail * state.f_frsize
            if free < kept:
                return (
                    f"{shown} has {free / _MEGABYTE:.0f} MB free, and "
                    f"{kept / _MEGABYTE:.0f} MB are kept free (--disk-reserve-mb): free "
                    "some room, or delete pictures"
                )
            probe = folder / _PROBE
            try:
                probe.write_bytes(b"x")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            return f"{shown} cannot be written ({error.strerror}): mend that; jobs wait meanwhile"
        return ""

    def _refill(self) -> None:
        if self._ballast.exists():
            return
        try:
            self._ballast.write_bytes(bytes(BALLAST_BYTES))
        except OSError:
            self._ballast.unlink(missing_ok=True)
