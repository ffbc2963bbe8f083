"""A network with the weights of its checkpoint in memory, widened to fp32.

Such a network is the check's reference for sources that no library loads as they are. The graph
reads tensors from the same places; for single files, tests compare the mapping of names to tensors
with diffusers' own converters.
"""

import math
from collections.abc import Callable, Container

import torch
from accelerate import init_empty_weights
from torch import nn

from engine_build.checkpoint.copies import read_pieces
from engine_build.checkpoint.weights import Checkpoint, StoredTensor, match_parameters

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def load_state(
    skeleton: Callable[[], nn.Module],
    checkpoint: Checkpoint,
    names: Callable[[str], tuple[str, ...]] = lambda name: (name,),
    needed: Container[str] | None = None,
) -> nn.Module:
    """Build a network and give it the checkpoint's tensors; `names` as `match_parameters` takes it.

    Parameters that are not `needed` are 0, which takes no memory; None: all are needed. Raises
    SourceError where a tensor is missing or does not fit.
    """
    with init_empty_weights(include_buffers=False):
        network = skeleton()
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    matched = match_parameters(shapes, names, checkpoint)
    # Tied parameters are one tensor here too.
    stored = {tensor for name, (_, tensor) in matched.items() if needed is None or name in needed}
    read = {tensor: read_tensor(tensor) for tensor in stored}
    state = {
        # One number, seen as many: memory that is filled with zeros is taken all the same.
        name: read[tensor] if tensor in read else torch.zeros(()).expand(tensor.shape)
        for name, (_, tensor) in matched.items()
    }
    # Buffers have their values already.
    network.load_state_dict(state, strict=False, assign=True)
    return network.eval().requires_grad_(False)


def read_tensor(tensor: StoredTensor) -> torch.Tensor:
    """A tensor in fp32, with no more than a piece of what is stored beside it in memory."""
    widened = torch.empty(math.prod(tensor.shape))
    begin = 0
    for piece in read_pieces(tensor):
        stored = torch.frombuffer(bytearray(piece), dtype=_DTYPES[tensor.dtype])
        widened[begin : begin + len(stored)] = stored
        begin += len(stored)
    return widened.reshape(tensor.shape)
