"""A traced graph's weights, linked to the tensors in safetensors files.

Weights stay in the precision of the checkpoint and are widened to fp32 by a Cast close behind the
initializer, which an inference backend folds away when it opens the graph.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from torch._subclasses.fake_tensor import FakeTensor

from engine_build.checkpoint.copies import read_pieces
from engine_build.checkpoint.weights import Layout, StoredTensor
from engine_build.package.tracing import TracedGraph
from runtime.errors import BuildError

_DTYPES = {
    "F32": ir.DataType.FLOAT,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
}


def link(
    traced: TracedGraph, weights: Mapping[str, tuple[str, StoredTensor]], directory: Path
) -> ir.Model:
    """Point the graph's weights to where they lie below `directory`; those whose bytes must be
    rearranged first become part of the graph itself.

    `weights` gives, for each parameter that the graph reads, its name in the package, which its
    initializer takes, and its tensor. Raises BuildError for an initializer left without a tensor.
    """
    graph = traced.model.graph
    for parameter, initializer in traced.parameters.items():
        name, tensor = weights[parameter]
        value = graph.initializers.pop(initializer)
        stored = _initializer(name, tensor, directory)
        graph.register_initializer(stored)
        if tensor.dtype == "F32":
            value.replace_all_uses_with(stored)
        else:
            _widen(value, stored, graph)
    _check_linked(traced.model)
    return traced.model


def _widen(value: ir.Value, stored: ir.Value, graph: ir.Graph) -> None:
    """Let the readers of an fp32 `value` read `stored`, of 16 bits, through a Cast.

    A transposed weight is widened behind its Transpose. ONNX Runtime keeps what it folds on the way
    until the session ends: the other way round, SDXL would take 5 GB more and open half as fast.
    """
    for node, _ in tuple(value.uses()):
        if node.op_type == "Transpose":
            transposed = node.outputs[0]
            narrow = ir.node("Transpose", [stored], node.attributes, name=f"{node.name}.stored")
            narrow.outputs[0].name = f"{transposed.name}.stored"
            graph.insert_before(node, narrow)
            cast = _cast(narrow.outputs[0], transposed)
            graph.insert_before(node, cast)
            transposed.replace_all_uses_with(cast.outputs[0])
            graph.remove(node, safe=True)
    if value.uses():
        cast = _cast(stored, value)
        graph.insert_before(graph[0], cast)
        value.replace_all_uses_with(cast.outputs[0])


def _cast(narrow: ir.Value, like: ir.Value) -> ir.Node:
    widened = ir.Value(name=f"{narrow.name}.fp32", shape=like.shape, type=like.type)
    to_fp32 = {"to": ir.DataType.FLOAT.value}
    return ir.node("Cast", [narrow], to_fp32, outputs=[widened], name=f"{narrow.name}.widen")


def _initializer(name: str, tensor: StoredTensor, directory: Path) -> ir.Value:
    dtype = _DTYPES[tensor.dtype]
    shape = ir.Shape(tensor.shape)
    value: ir.TensorProtocol
    if tensor.layout is Layout.AS_STORED:
        value = ir.ExternalTensor(
            tensor.path.relative_to(directory),
            tensor.offset,
            tensor.size_bytes,
            dtype,
            shape=shape,
            name=name,
            base_dir=directory,
        )
    else:
        numbers = np.frombuffer(b"".join(read_pieces(tensor)), dtype.numpy())
        value = ir.Tensor(numbers.reshape(tensor.shape), dtype=dtype, name=name)
    return ir.Value(name=name, shape=shape, type=ir.TensorType(dtype), const_value=value)


def _check_linked(model: ir.Model) -> None:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            continue
        if tensor is None or isinstance(getattr(tensor, "raw", None), FakeTensor):
            raise BuildError(f"the graph reads {name}, which is no parameter of the checkpoint")
