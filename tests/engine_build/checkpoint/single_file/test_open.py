"""Refusals of single files that cannot be built, and the demands on a base."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine_build.checkpoint.single_file.open import open_source
from engine_build.checkpoint.sources import DiffusersFolder
from runtime.errors import SourceError
from tests.engine_build.checkpoint.single_file import sgm
from tests.tiny.models import SourceOptions, save_source, sdxl_pipeline

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
    "diffusers' UNet": ({"down_blocks.0.x.weight": matrix(4, 4)}, "one network of a diffusers fol"),
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
    with pytest.raises(SourceError, match=r"of class FluxPipeline, but model.safetensors is a che"):
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


def test_a_network_that_the_file_lacks_is_named(
    tmp_path: Path, base: Path, state: sgm.State
) -> None:
    without = {name: value for name, value in state.items() if "first_stage" not in name}
    save_file(without, tmp_path / "model.safetensors")
    source = open_source(tmp_path / "model.safetensors", base)
    with pytest.raises(
        SourceError, match="holds no vae, expected tensors whose names begin with f"
    ):
        source.network("vae", ("AutoencoderKL",))
