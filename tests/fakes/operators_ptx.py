"""Our operators for ONNX Runtime with their committed PTX: the library's own sources launch it, and
it runs on the CPU with every access checked.
"""

import ctypes
import subprocess
from collections.abc import Mapping, Sequence
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_uint, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from runtime.package.tensors import Tensor
from scripts.compile_kernels import OPERATORS
from tests.fakes.custom_operators import Api
from tests.fakes.operators_host import compiler
from tests.fakes.ptx.machine import Fault, launch
from tests.fakes.ptx.memory import Array
from tests.fakes.ptx.program import programs_of

DRIVER = Path(__file__).parent / "operators_ptx.c"


def build_launching_operators(folder: Path) -> Path:
    """Compile the library that `PtxApi` takes into `folder`. Raises CalledProcessError."""
    library = folder / "operators-ptx.so"
    sources = [path for path in sorted(OPERATORS.glob("*.c")) if path.name != "driver.c"]
    command = [
        compiler() or "gcc", "-O1", "-shared", "-fPIC", "-Wall", '-DSOURCES="ptx"',
        f"-I{OPERATORS}", str(DRIVER), *map(str, sources), "-o", str(library), "-pthread",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


class PtxApi(Api):
    """ONNX Runtime with a GPU: what is in device memory has no address in this process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._programs = {
            name: program
            for module in sorted(OPERATORS.glob("*.ptx"))
            for name, program in programs_of(module.read_text()).items()
        }
        self._arrays: dict[int, np.ndarray] = {}
        self._fault: Fault | None = None
        kind = CFUNCTYPE(c_int, c_char_p, POINTER(c_uint), c_uint, c_void_p)
        self._launcher = kind(self._launch)
        hook = c_void_p.in_dll(self._library, "launcher")
        hook.value = ctypes.cast(self._launcher, c_void_p).value

    def run(
        self,
        name: str,
        dtype: str,
        inputs: Sequence[Tensor | None],
        attributes: Mapping[str, float | int | str],
        outputs: Sequence[bool] = (True,),
    ) -> list[Tensor | None]:
        """Create a node and run it once. Raises OperatorError and Fault."""
        self._arrays, self._fault = {}, None
        try:
            return super().run(name, dtype, inputs, attributes, outputs)
        finally:
            if self._fault is not None:
                raise self._fault

    def _data_of(self, value: int, address: Any) -> None:
        array = self._objects[value]
        # Far from each other, and of the alignment that the array has here.
        address[0] = (value << 36) + array.ctypes.data % 256
        self._arrays[address[0]] = array

    def _launch(self, name: bytes, grid: Any, threads: int, arguments: int) -> int:
        program = self._programs[name.decode()]
        given = [
            Array(f"array {i}", address, array.reshape(-1).view(np.uint8))
            for i, (address, array) in enumerate(self._arrays.items())
        ]
        parameters = ctypes.string_at(arguments, program.kernel.parameter_bytes)
        try:
            made = launch(program, (grid[0], grid[1], grid[2]), threads, parameters, given)
        except Fault as fault:
            # An exception does not pass through C.
            self._fault = fault
            return -1
        for each in given:
            each.content[:] = made[each.name]
        return 0
