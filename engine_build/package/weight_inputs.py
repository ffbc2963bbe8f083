"""Turns weights of a graph into inputs that a caller may give other values for.

An initializer that is an input of its graph too is that input's default: ONNX Runtime folds nothing
of it into the graph, and a call may override it.
https://github.com/onnx/onnx/blob/main/docs/IR.md#graphs
"""

from collections.abc import Iterable

import onnx_ir as ir

from runtime.package.manifest import Parameter


def let_weights_be_inputs(model: ir.Model, parameters: Iterable[Parameter]) -> None:
    """Add these parameters' initializers to the graph's inputs, in place."""
    graph = model.graph
    graph.inputs.extend(graph.initializers[each.initializer] for each in parameters)
