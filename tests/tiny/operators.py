"""A graph of our operators for ONNX Runtime, its inputs, and what it comes to."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from runtime.backends.device.device import Device
from runtime.backends.device.staging import PinnedPool, Uploads, reading
from runtime.backends.device.stream import Stream
from runtime.backends.onnxruntime.cuda_bound import Place
from runtime.backends.onnxruntime.cuda_session import OnnxCudaSession
from runtime.package.tensors import Tensor, stored
from tests.fakes.custom_operators import ELEMENTS
from tests.fakes.operators import gated_activation, gated_sum_norm, rotated_heads

TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float"}

INPUTS = {
    "x": (2, 7, 64),
    "branch": (2, 7, 64),
    "gate": (2, 1, 64),
    "scale": (2, 64),
    "text": (2, 3, 64),
    "weight": (16,),
    "bias": (64,),
    "cosines": (1, 10, 16),
    "sines": (1, 10, 16),
}
TABLES = {"cosines", "sines"}

NODES = """
    normed, total = calotype.GatedSumNorm <norm = "layer", epsilon = 0.00001>
        (x, branch, bias, "", gate, "", scale)
    only_normed = calotype.GatedSumNorm <norm = "rms", epsilon = 0.00001> (total)
    "", only_total = calotype.GatedSumNorm <norm = "rms", epsilon = 0.00001> (normed, branch)
    heads = calotype.RotatedHeads <heads = 4, epsilon = 0.00001>
        (text, "", weight, only_total, bias, weight, cosines, sines)
    values = calotype.RotatedHeads <heads = 4> (x, bias)
    active = calotype.GatedActivation <activation = "gelu_tanh"> (x, bias, "", "", branch)
    packed = calotype.GatedActivation <activation = "silu", packed = 1> (x)
"""
OUTPUTS = {
    "normed": 64,
    "total": 64,
    "only_normed": 64,
    "only_total": 64,
    "heads": 64,
    "values": 64,
    "active": 128,
    "packed": 32,
}


def model(nodes: str, outputs: dict[str, int], given: dict[str, Tensor]) -> onnx.ModelProto:
    """The model of some nodes; `outputs` says how wide each of its outputs is."""
    read = ", ".join(
        f"{TYPES[each.dtype]}[{','.join(map(str, each.values.shape))}] {name}"
        for name, each in given.items()
    )
    dtype = TYPES[given["x"].dtype]
    made = ", ".join(f"{dtype}[rows, tokens, {width}] {name}" for name, width in outputs.items())
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21, "calotype" : 1]>\n'
        f"operators ({read}) => ({made}) {{ {nodes} }}"
    )


def given_of(dtype: str) -> dict[str, Tensor]:
    """Random inputs of `NODES`."""
    draw = np.random.default_rng(5)
    made = {}
    for name, shape in INPUTS.items():
        kind = "F32" if name in TABLES else dtype
        made[name] = Tensor(kind, stored(draw.standard_normal(shape).astype(np.float32), kind))
    return made


def expected_of(given: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The numbers that `NODES` make of their inputs, by name."""
    dtype = given["x"].dtype

    def rounded(values: np.ndarray) -> np.ndarray:
        return Tensor(dtype, stored(values.astype(np.float32), dtype)).fp32()

    n = {name: each.fp32() for name, each in given.items()}
    x, branch, bias, weight = n["x"], n["branch"], n["bias"], n["weight"]
    norm: dict[str, Any] = {"epsilon": 1e-5, "rounded": rounded}
    modulated = [x, branch, bias, None, n["gate"], None, n["scale"]]
    normed, total = gated_sum_norm(modulated, norm="layer", **norm)
    _, only_total = gated_sum_norm([rounded(normed), branch], norm="rms", **norm)
    streams = [n["text"], None, weight, only_total, bias, weight, n["cosines"], n["sines"]]
    return {
        "normed": normed,
        "total": total,
        "only_normed": gated_sum_norm([total], norm="rms", **norm)[0],
        "only_total": only_total,
        "heads": rotated_heads(streams, heads=4, epsilon=1e-5),
        "values": rotated_heads([x, bias], heads=4),
        "active": gated_activation([x, bias, None, None, branch], activation="gelu_tanh"),
        "packed": gated_activation([x], activation="silu", packed=1),
    }


class Running:
    """A graph in a session of the CUDA provider, with its inputs on the device."""

    def __init__(
        self, device: Device, stream: Stream, path: Path, given: dict[str, Tensor]
    ) -> None:
        """Open the graph at `path`. Raises BackendError and DeviceError."""
        self._pool, self._stream = PinnedPool(device.cuda), stream
        uploads, places = Uploads(self._pool, stream), {}
        for name, each in given.items():
            memory = device.cuda.allocate(each.values.nbytes, "buffers")
            uploads.put(each.values, memory.address)
            places[name] = Place(ELEMENTS[each.dtype], each.values.shape, memory.address)
        uploads.end_round()
        stream.synchronize()
        engine: Any = SimpleNamespace(precision="fp16", flags=())
        self._session = OnnxCudaSession(device, stream, path.stem, engine, captures=True)
        self._session.open(path, path.parent)
        self._call = self._session.bound("these shapes")
        self._call.prepare(places)

    def run(self) -> None:
        """Run as a server does: plainly, then captured and proven, then launched."""
        self._call.run()

    def outputs(self) -> dict[str, np.ndarray]:
        """The outputs as they are stored, bf16 as bit patterns."""
        made = self._call.outputs.items()
        return {name: reading(self._pool, self._stream, each)() for name, each in made}
