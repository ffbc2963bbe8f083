"""Z-Image in its original naming: every tensor where diffusers' converter finds it."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file

from engine_build.checkpoint.single_file.family import SingleFileHeader
from engine_build.checkpoint.single_file.recognise import recognise
from engine_build.checkpoint.single_file.zimage import ZIMAGE
from engine_build.checkpoint.weights import read_header
from engine_build.package.state import read_tensor
from tests.engine_build.checkpoint.single_file import zimage
from tests.tiny.zimage_models import transformer


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_it_is_recognised_and_is_where_diffusers_finds_it(tmp_path: Path, prefix: str) -> None:
    network = {name: value.detach() for name, value in transformer().state_dict().items()}
    state = {prefix + name: value for name, value in zimage.state(network).items()}
    path = tmp_path / "z_image.safetensors"
    save_file(state, path)
    header = SingleFileHeader(path, read_header(path), {})
    assert recognise(header) is ZIMAGE
    found = ZIMAGE.networks["transformer"].find(header, {})
    converted = convert_z_image_transformer_checkpoint_to_diffusers(state)
    assert found.keys() == converted.keys() == network.keys()
    for name, tensor in converted.items():
        assert torch.equal(read_tensor(found[name]), tensor), name
