"""Installs a bundle of wheels on a machine with no network: checks parts, joins them, runs pip.

    python install.py [options of `pip install`]

The script needs Python and pip alone, and installs into the Python that runs it. `--wheels FOLDER`
keeps the joined wheels in a folder; `--check` ends after checking that every part is whole.
"""

from __future__ import annotations  # The types below must not break an older Python.

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.dont_write_bytecode = True  # Nothing is to be left beside the parts.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.offline_reading import blocks, check_parts, read_manifest, show
else:
    from offline_reading import blocks, check_parts, read_manifest, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="keep the wheels there")
    parser.add_argument("--check", action="store_true", help="only check that all parts are whole")
    options, of_pip = parser.parse_known_args(arguments)
    folder = Path(__file__).resolve().parent
    manifest, _, fault = read_manifest(folder)
    fault = fault or check_parts(folder, manifest["parts"])
    if fault or options.check:
        return end(fault)
    with tempfile.TemporaryDirectory() as temporary:
        wheels = options.wheels or Path(temporary)
        wheels.mkdir(parents=True, exist_ok=True)
        fault = join(folder, manifest, wheels)
        return end(fault) if fault else install(manifest["requirements"], wheels, of_pip)


def end(fault: str | None) -> int:
    """Print the fault, or that there is none; the exit code."""
    print("offline_install: " + fault if fault else "every part is whole", file=sys.stderr)
    return 1 if fault else 0


def join(folder: Path, manifest: dict[str, Any], wheels: Path) -> str | None:
    """Write the wheels that the parts hold into a folder; the first wheel's fault, or None."""
    stream = blocks(folder, manifest["parts"])
    rest = b""
    for number, file in enumerate(manifest["files"], start=1):
        show(f"joining file {number} of {len(manifest['files'])}")
        missing = file["size"]
        digest = hashlib.sha256()
        with (wheels / file["name"]).open("wb") as output:
            while missing:
                block = rest or next(stream)
                written, rest = block[:missing], block[missing:]
                output.write(written)
                digest.update(written)
                missing -= len(written)
        if digest.hexdigest() != file["sha256"]:
            return f"{file['name']}: not what was packed; make the bundle again"
    return None


def install(requirements: list[str], wheels: Path, of_pip: list[str]) -> int:
    """Let pip install the requirements from these wheels alone; the exit code of pip."""
    show("")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels)]
    return subprocess.call([*command, *of_pip, *requirements])


if __name__ == "__main__":
    sys.exit(main())
