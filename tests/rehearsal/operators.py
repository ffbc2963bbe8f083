"""A graph of our operators by the real ONNX Runtime on the stand-ins, in a process of its own.

    python -m tests.rehearsal.operators STAND_INS ONNXRUNTIME GRAPH INPUTS OUTPUTS

ONNXRUNTIME is a folder with onnxruntime-gpu. INPUTS has the graph's inputs as they are stored, bf16
as bit patterns; OUTPUTS is where the outputs go. The graph runs as a server runs it: plainly, then
captured, proven and launched. Writes what came of it as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from runtime.package.tensors import Tensor
from tests.rehearsal.bindings import Machine

DTYPES = {1: "F32", 10: "F16", 16: "BF16"}


def main(stand_ins: Path, library: str, graph: Path, inputs: Path, outputs: Path) -> dict[str, Any]:
    """Findings of a rehearsal."""
    sys.path.insert(0, library)
    machine = Machine(stand_ins)

    from runtime.backends.device.cuda import Cuda
    from runtime.backends.device.device import Device
    from runtime.backends.device.stream import Stream
    from tests.tiny.operators import Running

    device = Device(Cuda(machine.ours, machine.ours))
    dtypes = {
        each.name: DTYPES[each.type.tensor_type.elem_type] for each in onnx.load(graph).graph.input
    }
    with np.load(inputs) as numbers:
        given = {name: Tensor(dtype, numbers[name]) for name, dtype in dtypes.items()}
    try:
        running = Running(device, Stream(device.cuda, urgent=True), graph, given)
        running.run()
        machine.mark("behind")
        for _ in range(2):
            running.run()
        machine.mark("end")
    except Exception as error:
        return {"error": str(error), "shortfalls": list(device.shortfalls)}
    made: dict[str, Any] = running.outputs()
    np.savez(outputs, **made)
    return {"error": "", "shortfalls": list(device.shortfalls)}


if __name__ == "__main__":
    stand_ins, library, *files = sys.argv[1:]
    print(json.dumps(main(Path(stand_ins), library, *map(Path, files))))
