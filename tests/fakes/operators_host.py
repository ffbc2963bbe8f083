"""Our operators for ONNX Runtime on the host: their library and their kernels, of the very sources,
without CUDA and without ONNX Runtime.
"""

import shutil
import subprocess
from pathlib import Path

from scripts.compile_kernels import KERNELS, OPERATORS

SOURCE = Path(__file__).parent / "operators_host.cpp"


def compiler() -> str | None:
    """The path of gcc where it compiles C++ too; None without one."""
    return shutil.which("gcc") if shutil.which("g++") else None


def build_operators(folder: Path) -> Path:
    """Compile the operators into `folder`; returns the library.

    Raises CalledProcessError with the compiler's words.
    """
    library = folder / "operators-host.so"
    sources = [path for path in sorted(OPERATORS.glob("*.c")) if path.name != "driver.c"]
    command = [
        compiler() or "gcc", "-O1", "-shared", "-fPIC", "-Wall", "-Wno-sign-compare",
        "-Wno-unknown-pragmas", '-DSOURCES="host"', f"-I{KERNELS}", f"-I{OPERATORS}", str(SOURCE),
        *map(str, sources), "-o", str(library), "-lstdc++", "-lm", "-pthread",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library
