"""Unpacks a bundle on a machine with no network into a folder, and runs a command there.

    python unpack.py [--seconds N] FOLDER COMMAND ...
    python unpack.py /tmp/calotype python -m scripts.gpu_check --seconds 120

It needs Python alone: nothing is installed, nothing outside of FOLDER is changed, and no step can
wait for ever. The command runs in FOLDER/project with PYTHONPATH set, without standard input, and
its process group ends with it; `python` in its first place is the Python that runs this. A folder
that this bundle was unpacked into before is taken as it is.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

sys.dont_write_bytecode = True  # Nothing is to be left beside the parts.
from offline_reading import blocks, check_parts, read_manifest, show  # noqa: E402

DONE = ".unpacked"
TIMED_OUT = 124
GRACE = 15
"""Seconds in which a command that was told to end may end what it started."""


def main(arguments=None):
    """The command; its exit code, or 124 where it took too long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--seconds", type=float, default=600, metavar="N", help="for the command (default: 600)"
    )
    parser.add_argument(
        "--unpack-seconds", type=int, default=300, metavar="N", help="for all before (default: 300)"
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


def too_slow(*_):
    """Ends what waits, be it for a disk that is not there."""
    raise SystemExit("offline_unpack: unpacking takes longer than --unpack-seconds")


def unpack(here, manifest, folder, identity):
    """Fill the folder, unless this bundle did before; what is wrong, if anything is."""
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
    with tarfile.open(fileobj=Joined(here, manifest["parts"]), mode="r|xz") as archive:
        for number, member in enumerate(archive, start=1):
            show(f"unpacking file {number} of {manifest['files']}")
            archive.extract(member, unfinished, filter="data")
    show("")
    (unfinished / DONE).write_text(identity)
    unfinished.rename(folder)
    return None


class Joined:
    """The parts' bytes, as a file that is read from its beginning to its end."""

    def __init__(self, here, parts):
        self._blocks = blocks(here, parts)
        self._rest = b""

    def read(self, size):
        """So many bytes; fewer at the end alone."""
        while len(self._rest) < size:
            block = next(self._blocks, b"")
            if not block:
                break
            self._rest += block
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def run(folder, command, seconds):
    """Run a command with what was unpacked; its exit code."""
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


def end(process):
    """End a command and all that it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(GRACE)


if __name__ == "__main__":
    sys.exit(main())
