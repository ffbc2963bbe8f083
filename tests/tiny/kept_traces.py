"""Graphs of traced networks, traced once for every build that traces the same network.

A trace takes nine tenths of a tiny build's time and reads no weight: it follows from the module, as
it is made without weights, from its inputs and from the code. All of that is in its key, so a
checkpoint in fp16, in shards or in a single file shares the graphs of its folder in fp32.
"""

import io
import json
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import FrozenDict
from filelock import FileLock

from engine_build.package.export.role import RoleExport
from engine_build.package.tracing import TracedGraph, trace
from tests.tiny.build_code import build_code

PARAMETERS = "parameters"
"""The graph's note that holds `TracedGraph.parameters`."""


class KeptTraces:
    """Stands in for `trace`. Processes may share the folder."""

    def __init__(self, folder: Path, tracer: Callable[[RoleExport], TracedGraph] = trace) -> None:
        """The folder is made when it is missing; `tracer` makes what is not in it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._tracer = tracer

    def __call__(self, role: RoleExport) -> TracedGraph:
        """The role's graph, without weights; raises as `trace` does."""
        file = self._folder / f"{key_of(role)}.onnx"
        with FileLock(f"{file}.lock"):
            if not file.is_file():
                unfinished = file.with_name(f".{file.name}")
                unfinished.write_bytes(_packed(self._tracer(role)))
                unfinished.rename(file)
        return _unpacked(file.read_bytes())


def key_of(role: RoleExport) -> str:
    """The digest of all that a trace of this role follows from."""
    with init_empty_weights(include_buffers=False):
        network = role.skeleton()
    inputs = role.draw_inputs(role.traced_at, seed=0)
    axes = [(item.name, dict(item.axes)) for item in role.inputs]
    content = io.BytesIO()
    _Content(content).dump((role.wrap(network).eval(), axes, inputs, role.outputs))
    return sha256(build_code() + content.getvalue()).hexdigest()[:32]


class _Content(pickle.Pickler):
    """Pickles alike in every process: tensors by their numbers, which PyTorch pickles by their
    addresses, and sets in order.

    A tensor that occurs twice is told from two that are equal: tied weights are one initializer.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._seen: dict[int, tuple[int, torch.Tensor]] = {}

    def persistent_id(self, item: object) -> object:
        if isinstance(item, FrozenDict):  # It lists what was left out, in the order of a set.
            return sorted(repr(pair) for pair in item.items() if pair[0] != "_use_default_values")
        if isinstance(item, set | frozenset):
            return sorted(map(repr, item))
        if not isinstance(item, torch.Tensor):
            return None
        number, _ = self._seen.setdefault(id(item), (len(self._seen), item))
        flat = item.detach().contiguous().flatten()
        numbers = None if item.is_meta else flat.view(torch.uint8).numpy().tobytes()
        return number, str(item.dtype), tuple(item.shape), numbers


def _packed(traced: TracedGraph) -> bytes:
    """A graph with the names of its parameters; in the place of each weight there is a reference
    to no file, since ONNX keeps no initializer without a value."""
    graph = traced.model.graph
    for name in traced.parameters.values():
        value = graph.initializers[name]
        assert value.dtype is not None
        assert isinstance(value.shape, ir.Shape)
        value.const_value = ir.ExternalTensor("", 0, 0, value.dtype, shape=value.shape, name=name)
    traced.model.metadata_props[PARAMETERS] = json.dumps(dict(traced.parameters))
    packed: bytes = ir.to_proto(traced.model).SerializeToString()
    return packed


def _unpacked(content: bytes) -> TracedGraph:
    model = ir.from_proto(onnx.ModelProto.FromString(content))
    parameters = json.loads(model.metadata_props.pop(PARAMETERS))
    for name in parameters.values():
        model.graph.initializers[name].const_value = None
    return TracedGraph(model, parameters)
