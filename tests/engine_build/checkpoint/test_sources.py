"""Every wrong source is told what is wrong with it, before any work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.tiny.models import SourceOptions, save_source
from engine_build.checkpoint.sources import open_folder
from engine_build.package.build import BuildRequest, build_package
from engine_build.package.export.families import exporter_for
from engine_build.package.export.role import Choices
from runtime.errors import SourceError

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def shallow_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_source(tmp_path_factory.mktemp("sources") / "plain", SourceOptions(shallow=True))


@pytest.fixture
def source(shallow_source: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(shallow_source, tmp_path / "source"))


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def configure(component: str, **changes: Any) -> Callable[[Path], None]:
    return lambda source: edit(source / component / "config.json", **changes)


def index(**changes: Any) -> Callable[[Path], None]:
    return lambda source: edit(source / "model_index.json", **changes)


def schedule(**changes: Any) -> Callable[[Path], None]:
    return lambda source: edit(source / "scheduler/scheduler_config.json", **changes)


def remove(name: str) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        path = source / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda source: (source / name).write_bytes(content) and None


def only_pickle(source: Path) -> None:
    (source / UNET).rename(source / "unet/diffusion_pytorch_model.bin")


def two_variants(source: Path) -> None:
    for variant in ("fp16", "ema"):
        shutil.copy(source / UNET, source / f"unet/diffusion_pytorch_model.{variant}.safetensors")
    (source / UNET).unlink()


def change_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        tensors = load_file(source / UNET)
        change(tensors)
        save_file(tensors, source / UNET)

    return spoil


def drop_a_tensor(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["conv_in.weight"]


def reshape_a_tensor(tensors: dict[str, torch.Tensor]) -> None:
    tensors["conv_in.bias"] = torch.zeros(3)


def store_in_eight_bits(tensors: dict[str, torch.Tensor]) -> None:
    tensors["conv_in.bias"] = tensors["conv_in.bias"].to(torch.float8_e4m3fn)


def cut_off(source: Path) -> None:
    content = (source / UNET).read_bytes()
    (source / UNET).write_bytes(content[: len(content) // 2])


def missing_shard(source: Path) -> None:
    (source / UNET).unlink()
    (source / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "one-of-two.safetensors"}})
    )


def shard_elsewhere(source: Path) -> None:
    (source / UNET).unlink()
    (source / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "../vae/diffusion_pytorch_model.safetensors"}})
    )


def long_shard(source: Path) -> None:
    (source / UNET).unlink()
    (source / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "a" * 5_000}})
    )


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (remove(""), "source: there is no such folder; expected a diffusers folder"),
    "no index": (remove("model_index.json"), "no model_index.json in it; expected a diffusers"),
    "index not JSON": (write("model_index.json", b"{"), "model_index.json: no valid JSON"),
    "index a list": (write("model_index.json", b"[]"), "a JSON list, expected an object"),
    "index without class": (index(_class_name=None), "no _class_name in it"),
    "another pipeline": (
        index(_class_name="KolorsPipeline"),
        "of class KolorsPipeline, expected StableDiffusionXLPipeline",
    ),
    "refiner": (index(requires_aesthetics_score=True), "it is SDXL's refiner"),
    "component not listed": (
        index(text_encoder_2=[None, None]),
        "component text_encoder_2 is missing from model_index.json",
    ),
    "component not there": (remove("vae"), "component vae is missing, expected the folder"),
    "another network": (
        index(vae=["diffusers", "AutoencoderTiny"]),
        "vae is of class AutoencoderTiny, expected AutoencoderKL",
    ),
    "a class of no name": (
        index(vae=["diffusers", "A\n" * 5_000]),
        r"vae is of class 'A\\nA.{190,200}\.\.\., expected AutoencoderKL",
    ),
    "a number without end": (
        write("unet/config.json", b'{"layers": ' + b"9" * 5_000 + b"}"),
        r"unet/config.json: no valid JSON \(it has an integer of 5000 digits, 999999999\.\.\.; exp",
    ),
    "layers without end": (
        configure("text_encoder_2", num_hidden_layers=10**9),
        "text_encoder_2/config.json: num_hidden_layers is 1000000000, and the weights have",
    ),
    "blocks without end": (
        configure("unet", layers_per_block=10**9),
        "unet/config.json: layers_per_block is 1000000000, and the weights have",
    ),
    "channels without end": (
        configure("vae", block_out_channels=[10**9]),
        "vae/config.json: block_out_channels is 1000000000, expected at most 16777216",
    ),
    "no config": (remove("unet/config.json"), "unet/config.json: there is no such file"),
    "no weights": (remove(UNET), "unet: no weights in it, expected diffusion_pytorch_model"),
    "pickle": (only_pickle, "weights in Python's pickle format are not read"),
    "variants": (two_variants, "several variants of the weights"),
    "cut off": (cut_off, "cut off"),
    "not safetensors": (
        write(UNET, b"version https://git-lfs.github.com/spec/v1\n"),
        "a pointer of Git LFS",
    ),
    "missing shard": (missing_shard, "lists one-of-two.safetensors, which is not in"),
    "a shard of no name": (long_shard, r"lists a{200}\.\.\., which is not in"),
    "shard elsewhere": (shard_elsewhere, "lists ../vae/diffusion_pytorch_model.safetensors, which"),
    "missing tensor": (change_weights(drop_a_tensor), "the weights lack conv_in.weight"),
    "wrong shape": (change_weights(reshape_a_tensor), r"conv_in.bias is \[3\], but config.json"),
    "eight bits": (change_weights(store_in_eight_bits), "conv_in.bias is stored as F8_E4M3"),
    "config without a key": (configure("unet", in_channels=None), "config.json: no in_channels in"),
    "not SDXL's UNet": (configure("unet", addition_embed_type=None), "addition_embed_type is None"),
    "inpainting": (configure("unet", in_channels=9), "9 channels in and 4 out"),
    "distilled guidance": (configure("unet", time_cond_proj_dim=256), "guidance as an embedding"),
    "unknown block": (
        configure("unet", down_block_types=["DownBlock2D", "NoSuchBlock2D"]),
        "unet/config.json: no UNet2DConditionModel can be made of it",
    ),
    "blocks that are no texts": (
        configure("unet", down_block_types=[["DownBlock2D"], None]),
        r"unet/config.json: no UNet2DConditionModel can be made of it \(.*startswith",
    ),
    "an encoder of odd settings": (
        configure("text_encoder", hidden_act=[5]),
        "a value in its configurations is of another kind or size than the libraries take",
    ),
    "channels that are no list": (
        configure("vae", block_out_channels=8),
        "vae/config.json: block_out_channels is 8, expected a list of integers",
    ),
    "text too narrow": (
        configure("unet", cross_attention_dim=64),
        "cross_attention_dim is 64, but the text encoders give 72",
    ),
    "pooled text": (
        configure("text_encoder_2", projection_dim=32),
        "reads pooled text of 24, but text_encoder_2 gives 32",
    ),
    "no tokenizer": (remove("tokenizer_2/tokenizer.json"), "tokenizer_2: no tokenizer here"),
    "unreadable tokenizer": (
        write("tokenizer/tokenizer.json", b"{}"),
        "source/tokenizer: the tokenizer cannot be read",
    ),
    "tokenizer without padding": (
        lambda source: edit(source / "tokenizer_2/tokenizer_config.json", pad_token=None),
        "tokenizer_2: the tokenizer has no pad_token",
    ),
    "flow matching": (
        schedule(prediction_type="flow_prediction"),
        "scheduler_config.json: prediction_type is 'flow_prediction'",
    ),
    "preview decoder of another kind": (
        configure("preview_decoder", _class_name="AutoencoderKL"),
        "class AutoencoderKL with 4 latent channels, expected AutoencoderTiny with 4",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_source_is_told_so_in_one_line(
    source: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(source)
    engines = tmp_path / "engines"
    with pytest.raises(SourceError, match=message) as caught:
        build_package(BuildRequest(source, "model", engines), show_progress=False)
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    assert not engines.exists(), "refused before any work"


def test_a_folder_of_one_network_is_named_as_that(source: Path) -> None:
    with pytest.raises(SourceError, match=r"/unet: one network of a diffusers folder; give the fo"):
        open_folder(source / "unet")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x00" * 16)
    with pytest.raises(SourceError, match="file: a file; expected a diffusers folder"):
        open_folder(path)


def test_a_preview_decoder_that_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    request = BuildRequest(
        source, "model", tmp_path / "engines", preview_decoder=tmp_path / "nowhere"
    )
    with pytest.raises(SourceError, match="nowhere: there is no such folder; expected an Autoenc"):
        build_package(request, show_progress=False)


def test_a_variant_is_taken_where_it_is_the_only_one(source: Path) -> None:
    (source / UNET).rename(source / "unet/diffusion_pytorch_model.fp16.safetensors")
    unet = open_folder(source).network("unet", ("UNet2DConditionModel",))
    assert unet.variant == "fp16"
    assert [file.name for file in unet.checkpoint.files] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]


def test_plain_weights_win_over_a_variant(source: Path) -> None:
    shutil.copy(source / UNET, source / "unet/diffusion_pytorch_model.fp16.safetensors")
    unet = open_folder(source).network("unet", ("UNet2DConditionModel",))
    assert unet.variant is None
    assert [file.name for file in unet.checkpoint.files] == ["diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_are_put_together(tmp_path: Path, variant: str | None) -> None:
    options = SourceOptions(shallow=True, max_shard_size="300KB", variant=variant)
    source = open_folder(save_source(tmp_path / "sharded", options))
    unet = source.network("unet", ("UNet2DConditionModel",))
    text = source.network("text_encoder_2", ("CLIPTextModelWithProjection",))
    assert len(unet.checkpoint.files) > 1
    assert len(text.checkpoint.files) > 1
    assert unet.variant == text.variant == variant
    assert "conv_in.weight" in unet.checkpoint.tensors
    model = exporter_for(source).read(source, Choices())
    loaded = dict(next(role for role in model.roles if role.role == "denoiser").load().state_dict())
    assert loaded.keys() == unet.checkpoint.tensors.keys()
