"""Installs a bundle of wheels on a machine with no network: checks, joins, installs.

    python install.py [options of `pip install`]

It needs Python and pip alone, and installs into the Python that runs it. `--wheels FOLDER` keeps
the joined wheels in a folder; `--check` ends when every part was found whole.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # Nothing is to be left beside the parts.
from offline_reading import blocks, check_parts, read_manifest, show  # noqa: E402


def main(arguments=None):
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="keep the wheels there")
    parser.add_argument("--check", action="store_true", help="only look whether all is there")
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


def end(fault):
    """Say what is wrong, if anything is."""
    print("offline_install: " + fault if fault else "every part is whole", file=sys.stderr)
    return 1 if fault else 0


def join(folder, manifest, wheels):
    """Write the files that the parts hold, one after the other; what is wrong with one, if so."""
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


def install(requirements, wheels, of_pip):
    """Let pip install from the wheels alone; its exit code."""
    show("")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels)]
    return subprocess.call([*command, *of_pip, *requirements])


if __name__ == "__main__":
    sys.exit(main())
