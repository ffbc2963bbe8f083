"""Builds the stand-ins for CUDA's libraries, with gcc alone, into one folder."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

SOURCES = Path(__file__).parent
DRIVER = "libcuda.so.1"
RUNTIME = "libcudart.so.13"
OUR_RUNTIME = "libcudart-ours.so"
"""A second copy, as cuda-bindings has one."""

_LIBRARIES = {
    RUNTIME: "runtime.c",
    OUR_RUNTIME: "runtime.c",
    "libcublasLt.so.13": "products.c",
    "libcublas.so.13": "products.c",
    "libcurand.so.10": None,
    "libcudnn.so.9": "networks.c",
}
_VERSIONED = (RUNTIME, "libcublasLt.so.13", "libcublas.so.13")
"""Their names carry the library's as a version."""


def compiler() -> str | None:
    """The path of gcc; None without one."""
    return shutil.which("gcc")


def build(folder: Path, prefix: str = "") -> Path:
    """Compile all of them into `folder`; returns it. Raises CalledProcessError with gcc's words.

    With a `prefix` before their names nobody who asks for the real ones is given them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _compile(folder, prefix + DRIVER, [SOURCES / "driver.c"])
    for name, source in _LIBRARIES.items():
        parts = [SOURCES / source] if source else ["-x", "c", "/dev/null"]
        options = [f"-L{folder}", f"-l:{prefix}{DRIVER}"]
        if name in _VERSIONED:
            script = folder / f"{name}.map"
            script.write_text(f"{name} {{ *; }};\n", encoding="utf-8")
            options.append(f"-Wl,--version-script={script}")
        _compile(folder, prefix + name, [*parts, *options])
    return folder


def _compile(folder: Path, name: str, arguments: Iterable[str | Path]) -> None:
    command = [
        compiler() or "gcc", "-shared", "-fPIC", "-O1", "-g0", "-std=gnu11", "-Wall",
        f"-Wl,-soname,{name}", "-o", str(folder / name), *map(str, arguments), "-pthread", "-ldl",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
