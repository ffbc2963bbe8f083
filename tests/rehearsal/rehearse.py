"""One role of a package by the real ONNX Runtime on the stand-ins, in a process of its own.

    python -m tests.rehearsal.rehearse STAND_INS ONNXRUNTIME ENGINES PACKAGE ROLE GRAPH SPOIL

ONNXRUNTIME is a folder with onnxruntime-gpu. A plain run, a capture, and plain runs behind it: with
SPOIL `memory` memory is asked for within a capture that is local to its thread, with `memory-read`
the last error of ONNX Runtime's copy of the runtime is read behind it, with `no` nothing is done.
Writes what came of it as JSON.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.rehearsal.bindings import CaptureMode, Machine


def main(stand_ins: Path, library: str, engines: Path, names: list[str]) -> dict[str, Any]:
    """What was seen."""
    sys.path.insert(0, library)
    package_name, role, graph, spoil = names
    machine = Machine(stand_ins)

    from runtime.backends.device.cuda import Cuda
    from runtime.backends.device.device import Device
    from runtime.backends.onnxruntime.cuda_session import OnnxCudaSession
    from runtime.model import open_model

    package = open_model(engines, package_name).package
    record = package.manifest.roles[role]
    device = Device(Cuda(machine.ours, machine.ours))
    stream = device.cuda.stream(urgent=True)
    engine: Any = SimpleNamespace(precision="fp16", flags=())
    session = OnnxCudaSession(device, stream, role, record, engine)
    session.open(Path(graph).read_bytes(), Path(graph), package.path)
    call = session.call({name: _shape(each.shape) for name, each in record.inputs.items()})
    seen = {"plain": _tried(call._enqueue)}
    local = spoil != "no"
    mode = CaptureMode.cudaStreamCaptureModeThreadLocal
    machine.mark("capture")
    machine.ours.cudaStreamBeginCapture(
        stream.handle, mode if local else CaptureMode.cudaStreamCaptureModeRelaxed
    )
    if local:
        machine.theirs.cudaMalloc(512)
    seen["captured"] = _tried(call._enqueue)
    seen["end"] = machine.ours.cudaStreamEndCapture(stream.handle)[0].name
    if spoil == "memory-read":
        machine.theirs.cudaGetLastError()
    machine.mark("behind")
    seen["behind"] = [_tried(call._enqueue) for _ in range(2)]
    machine.mark("end")
    return seen


def _tried(work: Any) -> str:
    try:
        work()
    except Exception as error:
        return str(error)
    return "ran"


def _shape(axes: tuple[int | str, ...]) -> tuple[int, ...]:
    known = {"evaluations": 2, "batch": 1}
    return tuple(axis if isinstance(axis, int) else known.get(axis, 8) for axis in axes)


if __name__ == "__main__":
    stand_ins, library, engines, *names = sys.argv[1:]
    print(json.dumps(main(Path(stand_ins), library, Path(engines), names)))
