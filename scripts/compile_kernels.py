"""Compiles our CUDA kernels to PTX, which every driver since CUDA 12.0 compiles for its own GPU.

    python -m scripts.compile_kernels

The PTX is committed beside its source, so that a machine that serves needs no compiler. NVIDIA's
run-time compiler makes the PTX, in a pinned version; the compiler needs no GPU.
https://docs.nvidia.com/cuda/nvrtc/
"""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import files
from pathlib import Path

# A driver reads PTX of its own CUDA version and of older ones: hence the first compiler of CUDA 12.
PACKAGE = "nvidia-cuda-nvrtc-cu12"
_BACKENDS = Path(__file__).parent.parent / "runtime" / "backends"
KERNELS = _BACKENDS / "device" / "kernels"
OPERATORS = _BACKENDS / "onnxruntime" / "operators"
"""Folder of our operators for ONNX Runtime: their kernels, and the library that launches them."""
SOURCES = (*sorted(KERNELS.glob("*.cu")), *sorted(OPERATORS.glob("*.cu")))

# The oldest architecture that TensorRT serves; newer GPUs take PTX for an older architecture.
_ARCHITECTURE = "compute_75"


# The oldest with instructions for bf16.
_ARCHITECTURE_OF_BF16 = "compute_80"


def compiled(source: Path, target: str | None = None) -> bytes:
    """PTX of a CUDA source file; machine code where the target is a real GPU, such as `sm_90`.

    Raises ValueError with the compiler's log.
    """
    # The compiler changes the locale of its thread, and Python would then read text files as ASCII.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_compiled, source, target or architecture(source)).result()


def architecture(source: Path) -> str:
    """The oldest architecture that a source's PTX is for."""
    return _ARCHITECTURE_OF_BF16 if source.stem.endswith("_bf16") else _ARCHITECTURE


def _compiled(source: Path, target: str) -> bytes:
    library = _library()
    program = ctypes.c_void_p()
    headers = _headers(source)
    contents = (ctypes.c_char_p * len(headers))(*(path.read_bytes() for path in headers))
    names = (ctypes.c_char_p * len(headers))(*(path.name.encode() for path in headers))
    # No file name: PTX would hold the name, and differ from machine to machine.
    program_of = ctypes.byref(program), source.read_bytes(), None
    _check(library.nvrtcCreateProgram(*program_of, len(headers), contents, names))
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture={target}".encode())
    failed = library.nvrtcCompileProgram(program, 1, options)
    if failed:
        raise ValueError(f"{source}: {_text(library, program, 'ProgramLog').decode()}")
    return _text(library, program, "PTX" if target.startswith("compute") else "CUBIN")


def _headers(source: Path) -> list[Path]:
    """Headers that a source may include: those beside it, and those that all kernels share."""
    folders = dict.fromkeys((source.parent, KERNELS))
    return sorted(
        path for folder in folders for end in ("*.h", "*.cuh") for path in folder.glob(end)
    )


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    content = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{what}")(program, content))
    return content.raw.removesuffix(b"\0")


def _check(code: int) -> None:
    if code:
        raise ValueError(f"NVIDIA's run-time compiler answers with error {code}")


def _library() -> ctypes.CDLL:
    found = {file.name: str(file.locate()) for file in files(PACKAGE) or () if ".so" in file.name}
    # The compiler looks for its library of built-ins by file name alone: that one is loaded first.
    *_, library = [ctypes.CDLL(found[name], ctypes.RTLD_GLOBAL) for name in sorted(found)]
    return library


def main() -> int:
    """Compile every kernel source to PTX beside it."""
    for source in SOURCES:
        target = source.with_suffix(".ptx")
        target.write_bytes(compiled(source))
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
