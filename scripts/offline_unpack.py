"""Unpacks a bundle on a machine with no network into a folder, and runs a command there.

    python unpack.py [--seconds N] FOLDER COMMAND ...
    python unpack.py calotype python -m scripts.gpu_check --seconds 120

The script needs Python alone: nothing is installed, nothing outside of FOLDER is changed, and no
step can wait for ever. The command runs in FOLDER/project with PYTHONPATH set and without standard
input, and its process group ends with it. Where COMMAND begins with `python`, that is the Python
that runs this script. A folder into which this bundle was unpacked before is used as it is.
"""

from __future__ import annotations  # The types below must not break an older Python.

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

sys.dont_write_bytecode = True  # Nothing is to be left beside the parts.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.offline_reading import blocks, check_parts, read_manifest, show
else:
    from offline_reading import blocks, check_parts, read_manifest, show

DONE = ".unpacked"
TIMED_OUT = 124
GRACE = 15
"""Seconds that a terminated command has to end the processes it started."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Unpack and run the command; its exit code, 124 when too slow, or 1 on a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--seconds",
        type=float,
        default=600,
        metavar="N",
        help="limit for the command (default: 600)",
    )
    parser.add_argument(
        "--unpack-seconds",
        type=int,
        default=300,
        metavar="N",
        help="limit for unpacking (default: 300)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGALRM, too_slow)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.alarm(options.unpack_seconds)
    here = Path(__file__).resolve().parent
    folder = options.folder.resolve()
    manifest, identity, fault = read_manifest(here)
    fault = fault or unpack(here, manifest, folder, identity)
    signal.alarm(0)
    if fault:
        print("offline_unpack: " + fault, file=sys.stderr)
        return 1
    return run(folder, options.command, options.seconds) if options.command else 0


def too_slow(*_: object) -> None:
    """Handle the alarm: end the script, even while it waits for a disk that does not answer."""
    raise SystemExit("offline_unpack: unpacking takes longer than --unpack-seconds")


def unpack(here: Path, manifest: dict[str, Any], folder: Path, identity: str) -> str | None:
    """Fill the folder, unless this bundle was unpacked there before; the fault, or None."""
    if (folder / DONE).is_file() and (folder / DONE).read_text() == identity:
        return None
    if folder.exists():
        return f"{folder}: is there already, and not from this bundle; choose another folder"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version != manifest["python"]:
        return f"this is Python {version}, and the bundle is for {manifest['python']}"
    fault = check_parts(here, manifest["parts"])
    if fault:
        return fault
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    joined = cast("IO[bytes]", Joined(here, manifest["parts"]))
    with tarfile.open(fileobj=joined, mode="r|xz") as archive:
        for number, member in enumerate(archive, start=1):
            show(f"unpacking file {number} of {manifest['files']}")
            archive.extract(member, unfinished, filter="data")
    show("")
    (unfinished / DONE).write_text(identity)
    unfinished.rename(folder)
    return None


class Joined:
    """Parts of a bundle as one file, read from beginning to end."""

    def __init__(self, here: Path, parts: list[dict[str, Any]]) -> None:
        self._blocks = blocks(here, parts)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Read `size` bytes; fewer only at the end of the file."""
        while len(self._rest) < size:
            block = next(self._blocks, b"")
            if not block:
                break
            self._rest += block
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def run(folder: Path, command: list[str], seconds: float) -> int:
    """Run a command with the unpacked files; its exit code, or 124 after too many seconds."""
    first, *rest = command
    project = folder / "project"
    before = os.environ.get("PYTHONPATH")
    path = [str(folder / "site"), str(project), *([before] if before else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1"}
    if (folder / "packages").is_dir():
        environment["GPU_CHECK_PACKAGES"] = str(folder / "packages")
    process = subprocess.Popen(
        [sys.executable if first == "python" else first, *rest],
        cwd=project if project.is_dir() else folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"offline_unpack: ended after {seconds:g} seconds", file=sys.stderr)
        return TIMED_OUT
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command and every process of its process group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(GRACE)


if __name__ == "__main__":
    sys.exit(main())
