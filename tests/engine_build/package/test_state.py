"""A network gets its checkpoint's tensors, and what is not needed takes no memory."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from engine_build.checkpoint.weights import read_checkpoint
from engine_build.package.state import load_state


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))


def saved(path: Path) -> dict[str, torch.Tensor]:
    state = {name: value.bfloat16() for name, value in layers().state_dict().items()}
    save_file(state, path)
    return state


def test_every_tensor_is_widened_to_fp32(tmp_path: Path) -> None:
    state = saved(tmp_path / "model.safetensors")
    network = load_state(layers, read_checkpoint([tmp_path / "model.safetensors"]))
    for name, value in network.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].float())


def test_what_is_not_needed_is_zero_and_takes_no_memory(tmp_path: Path) -> None:
    state = saved(tmp_path / "model.safetensors")
    checkpoint = read_checkpoint([tmp_path / "model.safetensors"])
    network = load_state(layers, checkpoint, needed={"0.weight", "0.bias"})
    found = dict(network.named_parameters())
    assert torch.equal(found["0.weight"], state["0.weight"].float())
    assert not found["1.weight"].any()
    assert found["1.weight"].untyped_storage().nbytes() == 4
    assert torch.equal(network(torch.ones(3, 4)), torch.zeros(3, 2))
