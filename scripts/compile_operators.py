"""Compiles the library of our operators for ONNX Runtime, their kernels' PTX within.

    python -m scripts.compile_operators

The library is committed beside its source, so that a machine that serves needs no compiler. The
library needs Linux's C library alone, of any age that ONNX Runtime runs on. Where kernels changed,
`python -m scripts.compile_kernels` comes first.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from runtime.backends.onnxruntime.operator_library import LIBRARY
from scripts.compile_kernels import OPERATORS


def main() -> int:
    """Compile the library for this machine's architecture."""
    compile_library(LIBRARY)
    print(LIBRARY)
    return 0


def compile_library(target: Path) -> None:
    """Compile the library to `target`. Raises CalledProcessError with the compiler's words."""
    command = [
        shutil.which("gcc") or "gcc", "-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra",
        "-Werror", "-fvisibility=hidden", f'-DSOURCES="{sources()}"', f"-Wa,-I{OPERATORS}", "-s",
        # A session may outlive the options that the library was registered in.
        "-Wl,-z,nodelete", "-Wl,-z,defs", "-Wl,--build-id=none",
        "-o", str(target), *map(str, sorted(OPERATORS.glob("*.c"))),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)


def sources() -> str:
    """The digest of all that the library is made of."""
    found = hashlib.sha256()
    for path in sorted([*OPERATORS.glob("*.[ch]"), *OPERATORS.glob("*.ptx")]):
        found.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
