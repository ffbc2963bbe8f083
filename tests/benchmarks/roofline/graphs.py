"""Small graphs in ONNX's textual form, and facts of their nodes."""

import onnx.parser
import onnx_ir as ir

from benchmarks.roofline.call import Cost
from benchmarks.roofline.prediction import costs
from benchmarks.roofline.shapes import known_values, shapes_at
from benchmarks.roofline.value_facts import Shape


def graph(text: str) -> ir.Model:
    """Model of a graph's text; its initializers are part of the text."""
    header = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1, "calotype" : 1]>'
    return ir.from_proto(onnx.parser.parse_model(header + text))


def shapes(text: str, **extents: int) -> dict[str, Shape]:
    """Shapes of all values by name."""
    model = graph(text)
    known = known_values(model, shapes_at(model, extents))
    return {str(value.name): facts.shape for value, facts in known.items()}


def found(text: str, **extents: int) -> list[Cost]:
    """Launches of the nodes that run."""
    model = graph(text)
    return costs(model, shapes_at(model, extents))


def kinds(text: str, **extents: int) -> list[str]:
    """Kinds of all launches of nodes that run, without Memsets."""
    return [
        launch.kind
        for cost in found(text, **extents)
        for launch in cost.launches
        if launch.kind != "Memset"
    ]
