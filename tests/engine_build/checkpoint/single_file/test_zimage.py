"""Z-Image in its original naming: every tensor where diffusers' converter finds it."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file

from benchmarks.tiny.zimage_models import transformer
from engine_build.checkpoint.single_file.family import DENOISER_PREFIXES, SingleFileHeader
from engine_build.checkpoint.single_file.open import networks_in_file
from engine_build.checkpoint.single_file.recognise import recognise
from engine_build.checkpoint.single_file.zimage import ZIMAGE
from engine_build.checkpoint.weights import read_header
from engine_build.package.state import read_tensor
from tests.engine_build.checkpoint.single_file import zimage


@pytest.mark.parametrize("prefix", DENOISER_PREFIXES)
def test_it_is_recognised_and_is_where_diffusers_finds_it(tmp_path: Path, prefix: str) -> None:
    network = {name: value.detach() for name, value in transformer().state_dict().items()}
    state = {prefix + name: value for name, value in zimage.state(network).items()}
    path = tmp_path / "z_image.safetensors"
    save_file(state, path)
    header = SingleFileHeader(path, read_header(path), {})
    assert recognise(header) is ZIMAGE
    found = ZIMAGE.networks["transformer"].find(header, {})
    converted = convert_z_image_transformer_checkpoint_to_diffusers(zimage.state(network))
    assert found.keys() == converted.keys() == network.keys()
    for name, tensor in converted.items():
        assert torch.equal(read_tensor(found[name]), tensor), name


@pytest.mark.parametrize("lacking", ["text_encoder", "vae"])
def test_every_network_but_the_transformer_may_be_absent(tmp_path: Path, lacking: str) -> None:
    others = {
        "text_encoder": "text_encoders.qwen3_4b.transformer.model.layers.0.x",
        "vae": "vae.decoder.conv_in.weight",
    }
    assert ZIMAGE.networks.keys() == {"transformer", *others}
    there = {name: torch.zeros(2, 2) for key, name in others.items() if key != lacking}
    path = tmp_path / "file.safetensors"
    save_file({**zimage.state(transformer().state_dict()), **there}, path)
    assert networks_in_file(path) == ZIMAGE.networks.keys() - {lacking}


def test_a_transformer_under_diffusers_names_is_read(tmp_path: Path) -> None:
    network = {name: value.detach() for name, value in transformer().state_dict().items()}
    path = tmp_path / "z_image.safetensors"
    save_file(network, path)
    header = SingleFileHeader(path, read_header(path), {})
    assert recognise(header) is ZIMAGE
    assert ZIMAGE.networks["transformer"].find(header, {}).keys() == network.keys()
