"""One role of a package by the real ONNX Runtime on the stand-ins, in a process of its own.

    python -m tests.rehearsal.rehearse STAND_INS ONNXRUNTIME ENGINES PACKAGE ROLE GRAPH HOW

ONNXRUNTIME is a folder with onnxruntime-gpu. HOW is one of:

    bare           a plain run, a relaxed capture by hand, and plain runs behind it
    memory         the same, the capture local to its thread and memory asked for within it
    memory-read    and the last error of ONNX Runtime's copy of the runtime read behind it
    served         runs of a call, as a server makes them
    waited-for     the same, and somebody waits for the stream within each capture

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
    package_name, role, graph, how = names
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
    shapes = {name: _shape(each.shape) for name, each in record.inputs.items()}
    call = session.call(shapes, "these shapes")
    if how in {"served", "waited-for"}:
        return _served(machine, device, call, stream, wait=how == "waited-for")
    return _by_hand(machine, stream, call, how)


def _served(machine: Machine, device: Any, call: Any, stream: Any, *, wait: bool) -> dict[str, Any]:
    enqueue, handle = call.enqueue, stream.handle

    def enqueue_and_fill(*, capturing: bool) -> None:
        enqueue(capturing=capturing)
        # In the place of what kernels would write: here they write nothing.
        for buffer in call.outputs.values():
            memory = buffer.memory
            machine.ours.cudaMemsetAsync(memory.address, 1, memory.size_bytes, handle)
        if capturing and wait:
            machine.theirs.cudaDeviceSynchronize()

    call.enqueue = enqueue_and_fill
    seen = [_tried(call.run)]
    machine.mark("behind")
    seen += [_tried(call.run) for _ in range(2)]
    machine.mark("end")
    return {"runs": seen, "shortfalls": list(device.shortfalls)}


def _by_hand(machine: Machine, stream: Any, call: Any, how: str) -> dict[str, Any]:
    def plain() -> None:
        call.enqueue(capturing=False)

    seen: dict[str, Any] = {"plain": _tried(plain)}
    local = how != "bare"
    mode = CaptureMode.cudaStreamCaptureModeThreadLocal
    machine.mark("capture")
    machine.ours.cudaStreamBeginCapture(
        stream.handle, mode if local else CaptureMode.cudaStreamCaptureModeRelaxed
    )
    if local:
        machine.theirs.cudaMalloc(512)
    seen["captured"] = _tried(lambda: call.enqueue(capturing=True))
    seen["end"] = machine.ours.cudaStreamEndCapture(stream.handle)[0].name
    if how == "memory-read":
        machine.theirs.cudaGetLastError()
    machine.mark("behind")
    seen["behind"] = [_tried(plain) for _ in range(2)]
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
