"""Sources of FLUX.1 and Chroma: what a package takes from them, and what is refused by name."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from engine_build.checkpoint.weights import match_parameters
from engine_build.package.export.role import Choices
from engine_build.package.tracing import parameter_shapes
from runtime.errors import BuildError, SourceError
from tests.engine_build.package.export.reading import read, spoilt


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("model_index.json", {"_class_name": "FluxFillPipeline"}, "FluxFillPipeline"),
        ("model_index.json", {"_class_name": "FluxKontextPipeline"}, "FluxKontextPipeline"),
        ("transformer/config.json", {"in_channels": 384}, "384 channels in and 384 out"),
        ("transformer/config.json", {"out_channels": 32}, "64 channels in and 32 out"),
        ("transformer/config.json", {"joint_attention_dim": 25}, "text_encoder_2 gives 24"),
        ("transformer/config.json", {"pooled_projection_dim": 9}, "text_encoder gives 32"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchHeunDiscreteScheduler"},
            "of class FlowMatchHeunDiscreteScheduler, expected FlowMatchEulerDiscreteScheduler",
        ),
        ("scheduler/scheduler_config.json", {"use_beta_sigmas": True}, "use_beta_sigmas is True"),
        ("scheduler/scheduler_config.json", {"max_image_seq_len": 256}, "are both 256"),
    ],
)
def test_what_we_do_not_serve_is_refused_by_name(
    tiny_flux_source: Path, tmp_path: Path, file: str, changes: dict[str, Any], words: str
) -> None:
    source = spoilt(tiny_flux_source, tmp_path / "source", file, **changes)
    with pytest.raises(SourceError, match=re.escape(words)):
        read(source)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices(cfg_scale=3.5), "takes no guidance scale"),
        (Choices(sampler="euler_a"), "takes 'euler' alone"),
        (Choices(guidance_baked_in=True), "takes no guidance_baked_in; leave it out"),
        (Choices(negative_prompt="blurry"), "negative_prompt 'blurry': this model takes no"),
    ],
)
def test_a_default_that_no_request_could_have_is_refused(
    tiny_schnell_source: Path, choices: Choices, words: str
) -> None:
    with pytest.raises(BuildError, match=words):
        read(tiny_schnell_source, choices)


def test_a_model_keeps_its_own_defaults(tiny_flux_source: Path, tiny_schnell_source: Path) -> None:
    dev, schnell = read(tiny_flux_source), read(tiny_schnell_source)
    assert (dev.defaults.steps, dev.defaults.cfg_scale) == (50, 3.5)
    assert (schnell.defaults.steps, schnell.defaults.cfg_scale) == (4, None)
    assert (dev.defaults.width, dev.limits.max_size, dev.limits.multiple_of) == (1024, 2048, 16)
    chosen = read(tiny_flux_source, Choices(steps=28, cfg_scale=2.5)).defaults
    assert (chosen.steps, chosen.cfg_scale) == (28, 2.5)


def test_guidance_that_is_baked_in_leaves_one_evaluation(tiny_chroma_source: Path) -> None:
    base = read(tiny_chroma_source)
    flash = read(tiny_chroma_source, Choices(guidance_baked_in=True))
    assert (base.defaults.steps, base.defaults.cfg_scale) == (20, 4.0)
    assert (flash.defaults.steps, flash.defaults.cfg_scale) == (4, None)
    assert base.family_options == {"guidance_baked_in": False}
    assert flash.family_options == {"guidance_baked_in": True}
    assert base.limits.max_evaluations == 2 * flash.limits.max_evaluations


@pytest.mark.parametrize("spelling", ["shared.weight", "encoder.embed_tokens.weight"])
def test_t5_keeps_its_embeddings_under_either_name(
    tiny_chroma_source: Path, tmp_path: Path, spelling: str
) -> None:
    source = Path(shutil.copytree(tiny_chroma_source, tmp_path / "source"))
    file = source / "text_encoder/model.safetensors"
    tensors = load_file(file)
    embeddings = tensors.pop("shared.weight")
    save_file({**tensors, spelling: embeddings}, file, {"format": "pt"})
    role = next(role for role in read(source).roles if role.role == "text_encoder")
    matched = match_parameters(
        parameter_shapes(role), role.parameter_names, role.component.checkpoint
    )
    name, tensor = matched["shared.weight"]
    assert name == "shared.weight"
    assert tensor.shape == tuple(embeddings.shape)
