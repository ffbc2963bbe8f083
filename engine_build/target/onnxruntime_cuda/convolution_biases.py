"""Biases of convolutions that nothing behind takes, as Adds.

CUDA's provider adds a convolution's bias by cuDNN's addition of a tensor, which took 3.6 ps an
element on an H200; ONNX Runtime's own Add of a vector is predicted to take half as long.
"""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.values import like

_BIAS = 2
"""The position of the bias among a convolution's inputs."""


def put_biases_behind(model: ir.Model) -> None:
    """Let an Add behind each convolution with channels last add its bias, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "NhwcConv" and len(node.inputs) > _BIAS:
            _put_behind(node, graph)


def _put_behind(convolution: ir.Node, graph: ir.Graph) -> None:
    bias, output = convolution.inputs[_BIAS], convolution.outputs[0]
    if bias is None:
        return
    convolution.resize_inputs(_BIAS)
    shifted = like(output, f"{output.name}.biased")
    if output.is_graph_output():
        shifted.name, output.name = output.name, shifted.name
    output.replace_all_uses_with(shifted, replace_graph_outputs=True)
    # The vector comes second: only so the kernel finds its element by a single division.
    add = ir.node("Add", [output, bias], outputs=[shifted], name=f"{shifted.name}.node")
    graph.insert_after(convolution, add)
