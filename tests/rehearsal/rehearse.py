"""A compiled graph by the real ONNX Runtime on the stand-ins, in a process of its own.

    python -m tests.rehearsal.rehearse STAND_INS ONNXRUNTIME GRAPH WEIGHTS LATENTS HOW

ONNXRUNTIME is a folder with onnxruntime-gpu, WEIGHTS the folder that the graph's weights lie in,
LATENTS the height and width of the latents. HOW is one of:

    opened         no run at all
    bare           a plain run, a relaxed capture by hand, and plain runs behind it
    memory         the same, the capture local to its thread and memory asked for within it
    memory-read    and the last error of ONNX Runtime's copy of the runtime read behind it
    served         runs of a call, as a server makes them
    waited-for     the same, and somebody waits for the stream within each capture

Writes what came of it as JSON.
"""

import json
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx_ir as ir

from tests.rehearsal.bindings import CaptureMode, Machine


@dataclass(frozen=True)
class Rehearsal:
    """The work of a rehearsal, and its options."""

    graph: Path
    weights: Path
    latents: int
    how: str


def main(stand_ins: Path, library: str, rehearsal: Rehearsal) -> dict[str, Any]:
    """Findings of a rehearsal."""
    sys.path.insert(0, library)
    machine = Machine(stand_ins)

    from runtime.backends.device.cuda import Cuda
    from runtime.backends.device.device import Device
    from runtime.backends.device.stream import Stream
    from runtime.backends.onnxruntime.cuda_bound import BoundSession, Place
    from runtime.backends.onnxruntime.cuda_session import OnnxCudaSession

    graph, how = rehearsal.graph, rehearsal.how
    device = Device(Cuda(machine.ours, machine.ours))
    stream = Stream(device.cuda, urgent=True)
    engine: Any = SimpleNamespace(precision="fp16", flags=())
    places: dict[str, Place] = {}

    if how == "opened":
        machine.mark("opening")
        opened = OnnxCudaSession(device, stream, graph.stem, engine, captures=True)
        opened.open(graph, rehearsal.weights)
        machine.mark("open")
        opened.free()
        machine.mark("end")
        return {}

    def prepared(path: Path, *, captures: bool) -> BoundSession:
        for name, (element, axes) in _inputs(path).items():
            shape = _shape(axes, rehearsal.latents)
            if name not in places:
                memory = device.cuda.allocate(8 * prod(shape), "buffers")
                places[name] = Place(element, shape, memory.address)
        session = OnnxCudaSession(device, stream, path.stem, engine, captures=captures)
        session.open(path, rehearsal.weights)
        bound = session.bound("these shapes")
        bound.prepare(places)
        places.update(bound.made)
        return bound

    prelude = graph.with_suffix(".prelude.onnx")
    if prelude.exists():
        prepared(prelude, captures=False).run_plainly()
    call = prepared(graph, captures=True)
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


def _inputs(graph: Path) -> dict[str, tuple[int, tuple[int | str, ...]]]:
    """ONNX's number of the type of each input, and the input's axes."""
    inputs = {}
    for value in ir.load(graph).graph.inputs:
        assert value.dtype is not None
        assert value.shape is not None
        axes = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)
        inputs[str(value.name)] = value.dtype.value, axes
    return inputs


def _shape(axes: tuple[int | str, ...], latents: int) -> tuple[int, ...]:
    known = {"evaluations": 2, "batch": 1, "tokens": 77}
    return tuple(axis if isinstance(axis, int) else known.get(axis, latents) for axis in axes)


if __name__ == "__main__":
    stand_ins, library, graph, weights, latents, how = sys.argv[1:]
    asked = Rehearsal(Path(graph), Path(weights), int(latents), how)
    print(json.dumps(main(Path(stand_ins), library, asked)))
