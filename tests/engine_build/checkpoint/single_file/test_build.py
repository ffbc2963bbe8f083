"""However a model is stored, it draws the same picture."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from engine_build.cli import run
from engine_build.package.build import BuildRequest, build_package
from runtime.package.manifest import load_package
from tests.engine_build.checkpoint.single_file import bfl, sgm, zimage
from tests.parity import assert_same, generator_of, ours

BODY: dict[str, Any] = {
    "prompt": "a photo of a red apple",
    "negative_prompt": "blurry",
    "width": 64,
    "height": 96,
    "steps": 4,
    "seed": 3,
    "cfg_scale": 4.0,
    "sampler": "euler",
}


def build(source: Path, engines: Path, **options: Any) -> Path:
    request = BuildRequest(source, source.stem, engines, **options)
    return build_package(request, show_progress=False)


def assert_draws_the_same(package: Path, other: Path, body: dict[str, Any]) -> None:
    found, expected = (
        ours(generator_of(folder.parent, folder.name), body) for folder in (package, other)
    )
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_a_single_file_draws_what_its_folder_draws(
    rounded_pipeline: StableDiffusionXLPipeline,
    rounded_source: Path,
    rounded_package: Path,
    tmp_path: Path,
) -> None:
    state = {name: value.bfloat16() for name, value in sgm.state(rounded_pipeline).items()}
    save_file(state, tmp_path / "single.safetensors")
    package = build(tmp_path / "single.safetensors", tmp_path / "engines", base=rounded_source)
    manifest = load_package(package.parent, "single").manifest
    assert manifest.source.kind == "single file"
    assert manifest.source.reference == "single.safetensors, with rounded"
    folder = load_package(rounded_package, "rounded").manifest
    for role, record in manifest.roles.items():
        assert record.parameters.keys() == folder.roles[role].parameters.keys()
        assert {parameter.dtype for parameter in record.parameters.values()} == {"BF16"}
    assert_draws_the_same(package, rounded_package / "rounded", BODY)


@pytest.mark.parametrize(
    ("line", "encoders", "flags"),
    [
        ("flux", {"text_encoder": "clip_l", "text_encoder_2": "t5xxl"}, ["--in-place"]),
        ("chroma", {}, []),
        ("zimage", {"text_encoder": "qwen3_4b"}, []),
    ],
    ids=["flux of ComfyUI with all in one, in place", "chroma alone", "zimage with all in one"],
)
def test_a_single_file_of_a_transformer_draws_what_its_folder_draws(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    line: str,
    encoders: dict[str, str],
    flags: list[str],
) -> None:
    name = f"tiny_{line}"
    folder = request.getfixturevalue(f"{name}_package") / name
    base = Path(shutil.copytree(request.getfixturevalue(f"{name}_source"), tmp_path / "base"))
    state = (zimage if line == "zimage" else bfl).state(taken(base, "transformer"))
    prefix = "model.diffusion_model." if encoders else ""
    whole = {prefix + tensor: value for tensor, value in state.items()}
    for network, of_comfy in encoders.items():
        where = f"text_encoders.{of_comfy}.transformer."
        tensors = taken(base, network)
        tensors = sgm.clip(tensors) if of_comfy == "clip_l" else tensors
        whole |= {where + tensor: value for tensor, value in tensors.items()}
    if encoders:
        levels = len(json.loads((base / "vae" / "config.json").read_text())["block_out_channels"])
        vae = sgm.vae(taken(base, "vae"), levels)
        whole |= {"vae." + tensor: value.contiguous() for tensor, value in vae.items()}
    file = tmp_path / f"{line}.safetensors"
    save_file(whole, file)
    engines = tmp_path / "engines"
    command = ["build", str(file), "--base", str(base), "--name", line, "--engines", str(engines)]
    sizes = ["--default-size", "64x96", "--max-size", "1024"]
    assert run([*command, *sizes, *flags, "--quiet"]) == 0
    assert load_package(engines, line).manifest.source.reference == f"{line}.safetensors, with base"
    body = {key: BODY[key] for key in ("prompt", "seed", "steps", "width", "height")}
    assert_draws_the_same(engines / line, folder, body)


def taken(base: Path, network: str) -> dict[str, torch.Tensor]:
    """A network's tensors, which the base then lacks, as where the base is fetched for the file."""
    (weights,) = (base / network).glob("*.safetensors")
    state = load_file(weights)
    weights.unlink()
    return state


@pytest.mark.parametrize(("name", "dtype"), [("sharded", "BF16"), ("half", "F16")])
def test_shards_and_halves_draw_what_whole_files_in_fp32_draw(
    request: pytest.FixtureRequest, rounded_package: Path, tmp_path: Path, name: str, dtype: str
) -> None:
    package = build(request.getfixturevalue(f"{name}_source"), tmp_path)
    for record in load_package(package.parent, name).manifest.roles.values():
        assert {parameter.dtype for parameter in record.parameters.values()} == {dtype}
    assert_draws_the_same(package, rounded_package / "rounded", BODY)


@pytest.mark.parametrize("in_place", [False, True], ids=["own weights", "in place"])
def test_v_prediction_with_zero_terminal_snr_is_diffusers_own(
    rounded_pipeline: StableDiffusionXLPipeline,
    rounded_source: Path,
    tmp_path: Path,
    in_place: bool,
) -> None:
    markers = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    save_file({**sgm.state(rounded_pipeline), **markers}, tmp_path / "noob.safetensors")
    package = build(
        tmp_path / "noob.safetensors", tmp_path / "engines", base=rounded_source, in_place=in_place
    )
    pipeline = StableDiffusionXLPipeline.from_pretrained(rounded_source, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(
        pipeline.scheduler.config,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    with torch.no_grad():
        latents = pipeline(
            BODY["prompt"],
            negative_prompt=BODY["negative_prompt"],
            width=BODY["width"],
            height=BODY["height"],
            num_inference_steps=BODY["steps"],
            guidance_scale=BODY["cfg_scale"],
            generator=torch.Generator().manual_seed(BODY["seed"]),
            output_type="latent",
        ).images
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
        picture = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    assert_same(
        ours(generator_of(package.parent, "noob"), BODY), (latents.numpy(), np.asarray(picture))
    )
