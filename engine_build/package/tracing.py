"""A network without its weights to an ONNX graph, whose weights are linked afterwards.

No weight is ever in memory: the network is built on PyTorch's meta device and its parameters are
traced as fakes; `engine_build.package.linking` makes the graph's initializers references to where
the tensors lie on disk. Every graph computes in fp32.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from accelerate import init_empty_weights
from onnxscript.optimizer import _constant_folding as constant_folding
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from engine_build.package.export.role import Axis, GraphInput, RoleExport
from runtime.errors import BuildError

# Attention and normalisation operators of later opsets fail in today's backends.
OPSET = 20


@dataclass(frozen=True, slots=True)
class TracedGraph:
    """A graph whose weights are still to be linked."""

    model: ir.Model
    parameters: Mapping[str, str]
    """The network's parameters that the graph reads, each with its initializer's name so far."""


def parameter_shapes(role: RoleExport) -> dict[str, tuple[int, ...]]:
    """The network's parameters by name, without allocating one."""
    network = _skeleton(role)
    return {name: tuple(value.shape) for name, value in network.named_parameters()}


def trace(role: RoleExport) -> TracedGraph:
    """Trace a role's graph. Takes seconds to a minute; raises BuildError when PyTorch cannot."""
    network = _skeleton(role)
    _fake_parameters(network)
    module = role.wrap(network).eval()
    prefix = _prefix(module, network)
    inputs = tuple(role.draw_inputs(role.traced_at, seed=0).values())
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=_dynamic_shapes(role.inputs, module),
                input_names=[item.name for item in role.inputs],
                output_names=list(role.outputs),
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise BuildError(f"{role.role}: PyTorch cannot export it: {_last_line(error)}") from error
    model = program.model
    initializers = {
        name.removeprefix(prefix): name
        for name in model.graph.initializers
        if name.startswith(prefix)
    }
    read = {
        name: initializers[spelling]
        for name, spellings in _spellings(network).items()
        for spelling in spellings
        if spelling in initializers
    }
    _simplify(model, frozenset(read.values()))
    _strip_metadata(model)
    kept = {name: value for name, value in read.items() if value in model.graph.initializers}
    return TracedGraph(model, kept)


def _skeleton(role: RoleExport) -> nn.Module:
    # Buffers keep their values: tables and position ids are part of the graph.
    with init_empty_weights(include_buffers=False):
        return role.skeleton()


def _fake_parameters(network: nn.Module) -> None:
    """Put a fake fp32 tensor "on the CPU" in each parameter's place; tied ones stay tied."""
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    fakes: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in fakes:
                meta = torch.empty_like(parameter, device="meta", dtype=torch.float32)
                fake = FakeTensor(mode, meta, torch.device("cpu"))
                fakes[id(parameter)] = nn.Parameter(fake, requires_grad=False)
            setattr(module, name, fakes[id(parameter)])


def _spellings(network: nn.Module) -> dict[str, list[str]]:
    """Each parameter under its first name, with all of its names: a tied one has several."""
    by_identity: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        by_identity.setdefault(id(parameter), []).append(name)
    return {names[0]: names for names in by_identity.values()}


def _prefix(module: nn.Module, network: nn.Module) -> str:
    return next(f"{name}." for name, part in module.named_modules() if part is network)


def _dynamic_shapes(inputs: tuple[GraphInput, ...], module: nn.Module) -> tuple[object, ...]:
    """Dynamic shapes as torch.export takes them: a mapping for each argument, and one tuple of
    mappings for starred arguments."""
    dims: dict[str, object] = {}
    for item in inputs:
        for axis in item.axes.values():
            dims.setdefault(axis.name, _dimension(axis))
    shapes = [{at: dims[axis.name] for at, axis in item.axes.items()} for item in inputs]
    named = module.forward.__code__.co_argcount - 1
    return (*shapes[:named], tuple(shapes[named:])) if len(shapes) > named else tuple(shapes)


def _dimension(axis: Axis) -> object:
    smallest = axis.minimum // axis.multiple
    largest = None if axis.maximum is None else axis.maximum // axis.multiple
    name = axis.name if axis.multiple == 1 else f"{axis.name}_{axis.multiple}"
    dim = Dim(name, min=smallest, max=largest)
    return dim if axis.multiple == 1 else axis.multiple * dim


def _simplify(model: ir.Model, weights: frozenset[str]) -> None:
    """Fold what is constant and drop what is unused, and leave every weight as it is.

    onnxscript's own `optimize` would fold transposes into the weights and lose their names, and
    its rewriting pass takes minutes on a large network. Without folding, sequence operators of
    `torch.chunk` stay, which TensorRT does not read.
    """
    for name in weights:
        model.graph.initializers[name].const_value = None

    def should_fold(node: ir.Node) -> bool | None:
        reads_weight = any(value is not None and value.name in weights for value in node.inputs)
        return False if reads_weight else None

    fold = constant_folding.FoldConstantsPass(
        shape_inference=True,
        input_size_limit=8 * 1024,
        output_size_limit=512 * 1024,
        should_fold=should_fold,
    )
    ir.passes.Sequential(
        passes.InlinePass(),
        ir.passes.PassManager(
            [
                fold,
                passes.RemoveUnusedNodesPass(),
                passes.RemoveUnusedFunctionsPass(),
                passes.RemoveUnusedOpsetsPass(),
            ],
            steps=2,
            early_stop=True,
        ),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


def _strip_metadata(model: ir.Model) -> None:
    """Drop the exporter's notes on where each node came from: nineteen twentieths of the file."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for output in node.outputs:
            output.metadata_props.clear()
    for value in (*model.graph.initializers.values(), *model.graph.inputs):
        value.metadata_props.clear()


def _last_line(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
