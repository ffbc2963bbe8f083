"""Refusals of single files that cannot be built, and the demands on a base."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.tiny.models import SourceOptions, save_source, sdxl_pipeline
from engine_build.checkpoint.single_file.family import DENOISER_PREFIXES
from engine_build.checkpoint.single_file.open import networks_in_file, open_source
from engine_build.checkpoint.sources import DiffusersFolder
from engine_build.package.state import read_tensor
from runtime.errors import SourceError
from tests.engine_build.checkpoint.single_file import sgm

SHALLOW = SourceOptions(shallow=True, preview_decoder=False)
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_source(tmp_path_factory.mktemp("sources") / "base", SHALLOW)


@pytest.fixture(scope="module")
def state() -> sgm.State:
    return sgm.state(sdxl_pipeline(SHALLOW))


def matrix(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


WRONG: dict[str, tuple[sgm.State, str]] = {
    "LoRA": ({"lora_unet_x.lora_down.weight": matrix(4, 4)}, "a LoRA, which is laid over"),
    "LoRA of peft": ({"transformer.x.lora_A.weight": matrix(4, 4)}, "a LoRA, which is laid over"),
    "ControlNet": ({"control_model.input_hint_block.0.weight": matrix(4, 4)}, "a ControlNet"),
    "textual inversion": ({"clip_g": matrix(2, 4), "clip_l": matrix(2, 4)}, "a textual inversion"),
    "VAE": ({"first_stage_model.decoder.conv_in.weight": matrix(4, 4, 3, 3)}, "a VAE alone"),
    "SD 1.5": (
        {
            UNET + "input_blocks.0.0.weight": matrix(320, 4, 3, 3),
            "cond_stage_model.transformer.text_model.final_layer_norm.weight": matrix(4),
        },
        "Stable Diffusion 1, which is not served",
    ),
    "SD 2": (
        {
            UNET + "input_blocks.0.0.weight": matrix(320, 4, 3, 3),
            "cond_stage_model.model.ln_final.weight": matrix(4),
        },
        "Stable Diffusion 2, which is not served",
    ),
    "refiner": (
        {
            UNET + "input_blocks.0.0.weight": matrix(320, 4, 3, 3),
            "conditioner.embedders.0.model.ln_final.weight": matrix(4),
        },
        "SDXL's refiner, which is not served",
    ),
    "SD3": ({UNET + "joint_blocks.0.x_block.mlp.fc1.weight": matrix(4, 4)}, "Stable Diffusion 3"),
    "inpainting": (
        {
            UNET + "input_blocks.0.0.weight": matrix(320, 9, 3, 3),
            "conditioner.embedders.1.model.ln_final.weight": matrix(4),
        },
        "a model of inpainting or editing",
    ),
    "Flux Fill": (
        {"img_in.weight": matrix(32, 384), "double_blocks.0.img_mlp.0.weight": matrix(4, 4)},
        r"a Flux of the kind that reads a picture",
    ),
    "Lumina 2": ({UNET + "cap_embedder.0.weight": matrix(4)}, "Lumina 2, which is not served"),
    "diffusers' UNet of SD": ({"down_blocks.0.x.weight": matrix(4, 4)}, "a UNet of another model"),
    "another transformer": (
        {"transformer_blocks.0.x.weight": matrix(4, 4)},
        "one network of a diffusers folder; give the whole folder",
    ),
    "EMA alone": (
        {"model_ema.diffusion_modelout2weight": matrix(4)},
        "a moving average of weights",
    ),
    "bare SD 1": (
        {
            "input_blocks.0.0.weight": matrix(320, 4, 3, 3),
            "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": matrix(320, 768),
        },
        "Stable Diffusion 1, which is not served",
    ),
    "bare refiner": (
        {
            "diffusion_model.input_blocks.0.0.weight": matrix(384, 4, 3, 3),
            "diffusion_model.label_emb.0.0.weight": matrix(1536, 2560),
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": matrix(
                768, 1280
            ),
        },
        "SDXL's refiner, which is not served",
    ),
    "inpainting of diffusers": (
        {
            "down_blocks.0.resnets.0.conv1.weight": matrix(320, 320, 3, 3),
            "add_embedding.linear_1.weight": matrix(4, 4),
            "conv_in.weight": matrix(320, 9, 3, 3),
        },
        "a model of inpainting or editing",
    ),
    "bare inpainting": (
        {
            "input_blocks.0.0.weight": matrix(320, 9, 3, 3),
            "label_emb.0.0.weight": matrix(4, 4),
        },
        "a model of inpainting or editing",
    ),
    "difference": ({"diffusion_model.x.diff": matrix(4, 4)}, "a difference of weights, which is l"),
    "T5": ({"encoder.block.0.layer.0.x.weight": matrix(4, 4)}, "a T5 text encoder alone"),
    "CLIP": ({"text_model.encoder.layers.0.x.weight": matrix(4, 4)}, "a text encoder alone"),
    "Qwen3": ({"model.layers.0.mlp.x.weight": matrix(4, 4)}, "a language model alone"),
    "Qwen-Image": (
        {"transformer_blocks.0.x.weight": matrix(4, 4), "txt_norm.weight": matrix(4)},
        "Qwen-Image, which is not served",
    ),
    "scaled fp8": (
        {
            "img_in.weight": matrix(32, 64),
            "double_blocks.0.img_mlp.0.weight": matrix(4, 4),
            "double_blocks.0.img_mlp.0.scale_weight": matrix(1),
        },
        r"quantised \(double_blocks.0.img_mlp.0.scale_weight",
    ),
    "double precision": (
        {
            "img_in.weight": matrix(32, 64),
            "double_blocks.0.img_mlp.0.weight": matrix(4, 4).double(),
        },
        r"in double precision \(double_blocks.0.img_mlp.0.weight is stored as F64\)",
    ),
    "IP-Adapter": ({"ip_adapter.1.to_k_ip.weight": matrix(4, 4)}, "an IP-Adapter, which is not"),
    "AnimateDiff": (
        {"down_blocks.0.motion_modules.0.x.weight": matrix(4, 4)},
        "a motion module",
    ),
    "upscaler": ({"conv_first.weight": matrix(4, 4, 3, 3)}, "an upscaler, which is not served"),
    "something": ({"layer.weight": matrix(4, 4)}, "of no family that we know by its tensors"),
    "nothing": ({}, "of no family that we know by its tensors"),
    "eight bits": (
        {
            "img_in.weight": matrix(32, 64),
            "double_blocks.0.img_mlp.0.weight": matrix(4, 4).to(torch.float8_e4m3fn),
        },
        r"quantised \(double_blocks.0.img_mlp.0.weight is stored as F8_E4M3\).*in fp16, bf16 or",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), WRONG.values(), ids=WRONG)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, base: Path, tensors: sgm.State, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(path, base)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.ckpt", "pickle format are not read, since opening them can run code"),
        ("model.pt", "pickle format are not read"),
        ("model.bin", "pickle format are not read"),
        ("model.gguf", "GGUF weights are quantised"),
        ("model.zip", "no .safetensors file"),
    ],
)
def test_other_formats_are_refused_by_name_without_being_opened(
    tmp_path: Path, base: Path, name: str, message: str
) -> None:
    (tmp_path / name).touch(mode=0)
    with pytest.raises(SourceError, match=rf"{name}: .*{message}"):
        open_source(tmp_path / name, base)


def test_a_file_without_a_base_is_told_which(tmp_path: Path, state: sgm.State) -> None:
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(SourceError, match=r"checkpoint of SDXL .*--base stabilityai/stable-diffu"):
        open_source(tmp_path / "model.safetensors")


def test_a_base_of_another_family_is_refused(tmp_path: Path, base: Path, state: sgm.State) -> None:
    save_file(state, tmp_path / "model.safetensors")
    other = Path(shutil.copytree(base, tmp_path / "other"))
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))
    with pytest.raises(SourceError, match=r"of class FluxPipeline, but model.safetensors is a sin"):
        open_source(tmp_path / "model.safetensors", other)


def test_a_base_for_a_folder_is_refused(base: Path) -> None:
    with pytest.raises(
        SourceError, match=f"no single file, so it has no base; leave --base {base}"
    ):
        open_source(base, base)


def test_a_folder_is_a_folder(base: Path) -> None:
    assert isinstance(open_source(base), DiffusersFolder)


def test_the_base_needs_no_weights(tmp_path: Path, base: Path, state: sgm.State) -> None:
    bare = Path(shutil.copytree(base, tmp_path / "bare"))
    for file in bare.rglob("*.safetensors"):
        file.unlink()
    save_file(state, tmp_path / "model.safetensors")
    source = open_source(tmp_path / "model.safetensors", bare)
    unet = source.network("unet", ("UNet2DConditionModel",))
    assert unet.checkpoint.files == (tmp_path / "model.safetensors",)
    assert "conv_in.weight" in unet.checkpoint.tensors


PARTS = {
    "vae": "first_stage_model.",
    "text_encoder": "conditioner.embedders.0.",
    "text_encoder_2": "conditioner.embedders.1.",
}
CLASSES = {
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}


@pytest.mark.parametrize("lacking", [(name,) for name in PARTS] + [tuple(PARTS)], ids="+".join)
def test_what_the_file_lacks_comes_from_the_base(
    tmp_path: Path, base: Path, state: sgm.State, lacking: tuple[str, ...]
) -> None:
    gone = tuple(PARTS[name] for name in lacking)
    path = tmp_path / "model.safetensors"
    save_file({name: value for name, value in state.items() if not name.startswith(gone)}, path)
    assert networks_in_file(path) == {"unet", *PARTS} - set(lacking)
    source = open_source(path, base)
    assert source.network("unet", ("UNet2DConditionModel",)).checkpoint.files == (path,)
    folder = open_source(base)
    for name, classes in CLASSES.items():
        found = source.network(name, classes)
        if name in lacking:
            assert found == folder.network(name, classes)
        else:
            assert found.checkpoint.files == (path,)


def test_a_file_without_its_unet_is_refused(tmp_path: Path, base: Path, state: sgm.State) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: value for name, value in state.items() if not name.startswith(UNET)}, path)
    with pytest.raises(SourceError, match=r"text encoders or a VAE without the denoiser"):
        open_source(path, base)


def test_a_base_that_cannot_give_what_the_file_lacks_is_named(
    tmp_path: Path, base: Path, state: sgm.State
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: value for name, value in state.items() if "first_stage" not in name}, path)
    bare = Path(shutil.copytree(base, tmp_path / "bare"))
    (bare / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    source = open_source(path, bare)
    with pytest.raises(SourceError, match=r"model.safetensors holds no vae, and its base cannot g"):
        source.network("vae", ("AutoencoderKL",))


@pytest.mark.parametrize("prefix", DENOISER_PREFIXES)
def test_a_bare_unet_is_named_with_the_command_that_builds_it(
    tmp_path: Path, base: Path, state: sgm.State, prefix: str
) -> None:
    path = tmp_path / "unet.safetensors"
    unet = {
        prefix + name.removeprefix(UNET): value
        for name, value in state.items()
        if name.startswith(UNET)
    }
    save_file(unet, path)
    with pytest.raises(
        SourceError,
        match=r"the unet of SDXL alone without configurations, tokenizers, text_encoder, text_enc"
        rf"oder_2, vae; .*engine-build build {path} --name NAME --base stabilityai/stable-diff",
    ):
        open_source(path)
    found = open_source(path, base).network("unet", ("UNet2DConditionModel",))
    assert found.checkpoint.files == (path,)
    assert "conv_in.weight" in found.checkpoint.tensors


@pytest.mark.parametrize("prefix", ["", "unet."])
def test_a_unet_under_diffusers_names_is_read(tmp_path: Path, base: Path, prefix: str) -> None:
    unet = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    path = tmp_path / "unet.safetensors"
    save_file({prefix + name: value for name, value in unet.items()}, path)
    found = open_source(path, base).network("unet", ("UNet2DConditionModel",))
    assert found.checkpoint.tensors.keys() == unet.keys()


def test_a_moving_average_beside_the_weights_is_not_read(
    tmp_path: Path, base: Path, state: sgm.State
) -> None:
    path = tmp_path / "model.safetensors"
    average = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + 1
        for name, value in state.items()
        if name.startswith(UNET)
    }
    save_file({**state, **average, "model_ema.decay": matrix(1)}, path)
    found = open_source(path, base).network("unet", ("UNet2DConditionModel",)).checkpoint
    stored = found.tensors["conv_in.weight"]
    assert torch.equal(read_tensor(stored), state[UNET + "input_blocks.0.0.weight"])


@pytest.mark.parametrize(
    "name",
    ["model-00001-of-00003.safetensors", "diffusion_pytorch_model.safetensors.index.json"],
)
def test_a_part_of_the_weights_is_named_as_that(tmp_path: Path, base: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"one of several files of a network, or their index"):
        open_source(tmp_path / name, base)
