"""The fusions of a typed graph with channels last, in their order."""

from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda.bias_gelu import fuse_bias_gelus
from engine_build.target.onnxruntime_cuda.columns import split_columns
from engine_build.target.onnxruntime_cuda.convolution_biases import put_biases_behind
from engine_build.target.onnxruntime_cuda.gated_activation import fuse_gated_activations
from engine_build.target.onnxruntime_cuda.gated_sums import fuse_gated_sums
from engine_build.target.onnxruntime_cuda.geglu import fuse_geglus
from engine_build.target.onnxruntime_cuda.identities import remove_identities, share_equal_nodes
from engine_build.target.onnxruntime_cuda.joined import join_products
from engine_build.target.onnxruntime_cuda.layer_norm import narrow_layer_norms
from engine_build.target.onnxruntime_cuda.modulated_norms import fuse_modulations, fuse_norms
from engine_build.target.onnxruntime_cuda.rotated_heads import fuse_heads, fuse_rotated_heads
from engine_build.target.onnxruntime_cuda.skip_group_norms import (
    fuse_picture_sums,
    fuse_skip_group_norms,
)
from engine_build.target.onnxruntime_cuda.skip_norms import fuse_bias_adds, fuse_skip_norms
from engine_build.target.onnxruntime_cuda.stored_weights import (
    fuse_transposed_products,
    look_up_stored_rows,
)

Fusion = Callable[[ir.Model], None]
"""Rewrites a typed graph, channels last, in place."""

FUSIONS: tuple[Fusion, ...] = (
    remove_identities,
    share_equal_nodes,
    look_up_stored_rows,
    fuse_transposed_products,
    fuse_norms,
    fuse_modulations,
    fuse_gated_sums,
    fuse_rotated_heads,
    fuse_heads,
    fuse_gated_activations,
    fuse_geglus,
    fuse_bias_gelus,
    narrow_layer_norms,
    fuse_skip_norms,
    fuse_bias_adds,
    fuse_skip_group_norms,
    fuse_picture_sums,
    join_products,
    put_biases_behind,
    split_columns,
)
"""In their order: each finds its pattern in what the ones before it left."""


def fused_in_turn(model: ir.Model, fusions: Iterable[Fusion] = FUSIONS) -> Iterator[str]:
    """Apply fusions in place, one after another; gives the name of each when it is done."""
    for fuse in fusions:
        # What a fusion replaced would still be a reader to the next fusion.
        passes.RemoveUnusedNodesPass()(model)
        fuse(model)
        passes.RemoveUnusedNodesPass()(model)
        # Fused nodes stand where the last of theirs stood, maybe before what makes their inputs.
        model.graph.sort()
        yield fuse.__name__
