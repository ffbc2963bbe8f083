"""A graph of our operators by the real ONNX Runtime on the stand-ins, in a process of its own.

    python -m tests.rehearsal.operators STAND_INS ONNXRUNTIME GRAPH INPUTS OUTPUTS

ONNXRUNTIME is a folder with onnxruntime-gpu. INPUTS has the graph's inputs as they are stored, bf16
as bit patterns; OUTPUTS is where the outputs go. The graph runs as a server runs it: plainly, then
captured, proven and launched. Writes what came of it as JSON.
"""

import ctypes
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir

from tests.rehearsal.bindings import Machine

RUNS = 3


def main(stand_ins: Path, library: str, graph: Path, inputs: Path, outputs: Path) -> dict[str, Any]:
    """Findings of a rehearsal."""
    sys.path.insert(0, library)
    machine = Machine(stand_ins)

    from runtime.backends.device.cuda import Cuda
    from runtime.backends.device.device import Device
    from runtime.backends.device.stream import Stream
    from runtime.backends.onnxruntime.cuda_bound import Place
    from runtime.backends.onnxruntime.cuda_session import OnnxCudaSession

    device = Device(Cuda(machine.ours, machine.ours))
    stream = Stream(device.cuda, urgent=True)
    engine: Any = SimpleNamespace(precision="fp16", flags=())
    places = {}
    with np.load(inputs) as given:
        for value in ir.load(graph).graph.inputs:
            assert value.dtype is not None
            numbers = np.ascontiguousarray(given[str(value.name)])
            address = device.cuda.allocate(numbers.nbytes or 1, "buffers").address
            ctypes.memmove(address, numbers.ctypes.data, numbers.nbytes)
            places[str(value.name)] = Place(value.dtype.value, numbers.shape, address)
    session = OnnxCudaSession(device, stream, graph.stem, engine, captures=True)
    try:
        session.open(graph, graph.parent)
        call = session.bound("these shapes")
        call.prepare(places)
        call.run()
        machine.mark("behind")
        for _ in range(RUNS - 1):
            call.run()
        machine.mark("end")
    except Exception as error:
        return {"error": str(error), "shortfalls": list(device.shortfalls)}
    made = {name: _read(buffer) for name, buffer in call.outputs.items()}
    np.savez(outputs, **made)
    return {"error": "", "shortfalls": list(device.shortfalls)}


def _read(buffer: Any) -> np.ndarray:
    numbers = np.empty(buffer.shape, buffer.dtype)
    ctypes.memmove(numbers.ctypes.data, buffer.memory.address, numbers.nbytes)
    return numbers


if __name__ == "__main__":
    stand_ins, library, *files = sys.argv[1:]
    print(json.dumps(main(Path(stand_ins), library, *map(Path, files))))
