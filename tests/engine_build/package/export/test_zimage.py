"""Sources of Z-Image: what a package takes from them, and what is refused by name."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing

from benchmarks.tiny.zimage_models import CHAT_TEMPLATE, qwen_tokenizer
from engine_build.checkpoint.weights import match_parameters
from engine_build.package.export.qwen import chat_frame
from engine_build.package.export.role import Choices
from engine_build.package.tracing import parameter_shapes
from runtime.errors import BuildError, SourceError
from tests.engine_build.package.export.reading import read, spoilt

FRAME = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("model_index.json", {"_class_name": "ZImageImg2ImgPipeline"}, "ZImageImg2ImgPipeline"),
        ("model_index.json", {"_class_name": "ZImageInpaintPipeline"}, "ZImageInpaintPipeline"),
        ("model_index.json", {"_class_name": "ZImageControlNetPipeline"}, "ZImageControlNet"),
        ("model_index.json", {"_class_name": "ZImageOmniPipeline"}, "ZImageOmniPipeline"),
        ("transformer/config.json", {"siglip_feat_dim": 8}, "omni or editing model of Z-Image"),
        ("transformer/config.json", {"all_patch_size": [4]}, "no layers for patches of 2x2"),
        ("transformer/config.json", {"qk_norm": False}, "qk_norm is False, expected true"),
        ("transformer/config.json", {"in_channels": 4}, "4 channels in, but the VAE's latents"),
        ("transformer/config.json", {"cap_feat_dim": 9}, "text_encoder gives 16"),
        ("transformer/config.json", {"axes_lens": [513, 128, 128]}, "513, expected at least 514"),
        ("scheduler/scheduler_config.json", {"use_karras_sigmas": True}, "use_karras_sigmas is"),
        ("scheduler/scheduler_config.json", {"shift": 0}, "shift is 0, expected a number over 0"),
    ],
)
def test_what_we_do_not_serve_is_refused_by_name(
    tiny_zimage_source: Path, tmp_path: Path, file: str, changes: dict[str, Any], words: str
) -> None:
    source = spoilt(tiny_zimage_source, tmp_path / "source", file, **changes)
    with pytest.raises(SourceError, match=re.escape(words)):
        read(source)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices(cfg_scale=4.0), "takes no guidance scale"),
        (Choices(sampler="euler_a"), "takes 'euler' alone"),
        (Choices(guidance_baked_in=True), "takes no guidance_baked_in; leave it out"),
        (Choices(negative_prompt="blurry"), "negative_prompt 'blurry': this model takes no"),
        (Choices(max_size=4096), "4096 pixels a side: this transformer knows places for 2048"),
    ],
)
def test_a_choice_that_the_model_cannot_honour_is_refused(
    tiny_zimage_source: Path, choices: Choices, words: str
) -> None:
    with pytest.raises(BuildError, match=words):
        read(tiny_zimage_source, choices)


def test_a_model_keeps_its_own_defaults(tiny_zimage_source: Path) -> None:
    model = read(tiny_zimage_source)
    defaults, limits = model.defaults, model.limits
    assert (defaults.steps, defaults.cfg_scale, defaults.sampler) == (8, None, "euler")
    assert (defaults.width, defaults.height) == (1024, 1024)
    assert (limits.max_size, limits.multiple_of) == (2048, 16)
    assert tuple(model.family_options["chat_frame"]) == FRAME


@pytest.mark.parametrize("prefix", ["", "model."])
def test_qwen_may_be_stored_as_part_of_a_language_model(
    tiny_zimage_source: Path, tmp_path: Path, prefix: str
) -> None:
    source = Path(shutil.copytree(tiny_zimage_source, tmp_path / "source"))
    file = source / "text_encoder/model.safetensors"
    tensors = {f"{prefix}{name}": tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    role = next(role for role in read(source).roles if role.role == "text_encoder")
    matched = match_parameters(
        parameter_shapes(role), role.parameter_names, role.component.checkpoint
    )
    name, tensor = matched["layers.0.mlp.up_proj.weight"]
    assert name == "model.layers.0.mlp.up_proj.weight"
    assert tensor.shape == (32, 16)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (CHAT_TEMPLATE.replace("message.content", "message.content | trim"), "of the text ' "),
        (CHAT_TEMPLATE.replace("message.content", "message.content | e"), "of the text '<b>"),
        (CHAT_TEMPLATE.replace("message.content", "message.content * 2"), "of the text ''"),
        (
            CHAT_TEMPLATE.replace("message.content", "message.content.split('</think>')[-1]"),
            "of the text '<think>",
        ),
        ("the same for every text", "of the text ''"),
        ("{{ nothing.at.all }}", "cannot be rendered"),
        (None, "cannot be rendered"),
    ],
)
def test_a_template_that_does_not_just_surround_the_text_is_refused(
    tmp_path: Path, template: str | None, words: str
) -> None:
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SourceError, match=re.escape(words)):
        chat_frame(tmp_path)


def test_a_tokenizer_that_adds_tokens_of_its_own_is_refused(tmp_path: Path) -> None:
    tokenizer = qwen_tokenizer()
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SourceError, match="adds 1 tokens of its own"):
        chat_frame(tmp_path)
