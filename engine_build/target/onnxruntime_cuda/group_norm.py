"""Group norms, with the SiLU behind them, as one operator: `com.microsoft.GroupNorm`.

PyTorch's exporter writes a group norm as an instance norm of the groups:

    x -> Reshape [N, G, -1] -> InstanceNormalization -> Reshape -> Mul gamma -> Add beta (-> SiLU)

with Casts to fp32 and back where the graph is of 16 bits. The operator takes x in fp16 or fp32,
gamma and beta in fp32, and sums in fp32 whatever x is.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupNorm
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.kernels import takes
from engine_build.target.onnxruntime_cuda.patterns import DOMAIN, only_reader, producer

# The CUDA kernel takes groups of an even number of channels, at most so many.
_LARGEST_GROUP = 512


@dataclass(frozen=True, slots=True)
class _GroupNorm:
    """A group norm around an instance norm, as found in a graph."""

    source: ir.Value
    gamma: ir.Value
    beta: ir.Value
    groups: int
    epsilon: float
    silu: bool
    result: ir.Value


def fuse_group_norms(model: ir.Model) -> None:
    """Fuse group norms of pictures in a typed graph, in place; channels stay where they are."""
    for node in list(model.graph):
        if node.op_type == "InstanceNormalization":
            found = _found(node)
            if found is not None and _taken(found):
                _replace(found, model.graph)


def _found(norm: ir.Node) -> _GroupNorm | None:
    reshape = producer(_before_cast(norm.inputs[0]), "Reshape")
    back = only_reader(norm.outputs[0], "Reshape")
    scaled = only_reader(back, "Mul")
    shifted = only_reader(scaled, "Add")
    if reshape is None or back is None or scaled is None or shifted is None:
        return None
    gamma, beta = _per_channel(scaled, back), _per_channel(shifted, scaled)
    source = _before_cast(reshape.inputs[0])
    groups = _plain_groups(norm)
    if gamma is None or beta is None or source is None or groups is None:
        return None
    silu = _silu(shifted)
    return _GroupNorm(
        source=source,
        gamma=gamma,
        beta=beta,
        groups=groups,
        epsilon=norm.attributes["epsilon"].as_float(),
        silu=silu is not None,
        result=_after_cast((silu or shifted).outputs[0], source.dtype),
    )


def _taken(norm: _GroupNorm) -> bool:
    """True where the operator computes exactly this group norm."""
    shape = norm.source.shape
    if shape is None or len(shape) != 4 or not takes("GroupNorm", norm.source.dtype):
        return False
    channels = shape[1]
    if not isinstance(channels, int) or channels % norm.groups:
        return False
    size = channels // norm.groups
    of_fp32 = norm.gamma.dtype == norm.beta.dtype == ir.DataType.FLOAT
    same_dtype = norm.result.dtype == norm.source.dtype
    inside = same_dtype and not norm.result.is_graph_output()
    return of_fp32 and inside and size % 2 == 0 and size <= _LARGEST_GROUP


def _replace(norm: _GroupNorm, graph: ir.Graph) -> None:
    last = norm.result.producer()
    assert last is not None
    name = norm.result.name
    output = ir.Value(name=f"{name}.fused", shape=norm.source.shape, type=norm.source.type)
    node = ir.node(
        "GroupNorm",
        [norm.source, norm.gamma, norm.beta],
        {
            "activation": int(norm.silu),
            "channels_last": 0,
            "epsilon": norm.epsilon,
            "groups": norm.groups,
        },
        domain=DOMAIN,
        outputs=[output],
        name=f"{name}.group_norm",
    )
    graph.insert_before(last, node)
    norm.result.replace_all_uses_with(output)


def _plain_groups(norm: ir.Node) -> int | None:
    """The number of groups, where the instance norm scales and shifts none of them."""
    scale, shift = (value.const_value if value else None for value in norm.inputs[1:3])
    if scale is None or shift is None:
        return None
    if not (np.all(scale.numpy() == 1) and np.all(shift.numpy() == 0)):
        return None
    return scale.size


def _per_channel(node: ir.Node, other: ir.Node) -> ir.Value | None:
    """The vector `[C]` that `node` spreads over the pictures that `other` made."""
    values = [value for value in node.inputs if value is not other.outputs[0]]
    spread = producer(values[0], "Unsqueeze") if len(values) == 1 else None
    return spread.inputs[0] if spread is not None else None


def _silu(node: ir.Node) -> ir.Node | None:
    """The Mul of `x * sigmoid(x)`, where nothing else reads a node's output `x`."""
    value = node.outputs[0]
    readers = {use.node.op_type: use.node for use in value.uses()}
    if len(value.uses()) != 2 or readers.keys() != {"Sigmoid", "Mul"} or value.is_graph_output():
        return None
    product, gate = readers["Mul"], readers["Sigmoid"].outputs[0]
    both = set(product.inputs) == {value, gate} and len(gate.uses()) == 1
    return product if both else None


def _before_cast(value: ir.Value | None) -> ir.Value | None:
    cast = producer(value, "Cast")
    return value if cast is None else cast.inputs[0]


def _after_cast(value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """The value's Cast to `dtype`, where only that Cast reads the value; else the value."""
    cast = only_reader(value, "Cast")
    return cast.outputs[0] if cast is not None and cast.outputs[0].dtype == dtype else value
