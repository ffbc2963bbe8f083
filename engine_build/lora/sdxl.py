"""The names that LoRA files have for the layers of SDXL.

Each row of the table was read in the program that writes it: kohya-ss/sd-scripts
(networks/lora.py), KohakuBlueleaf/LyCORIS (lycoris/wrapper.py, kohya.py), huggingface/diffusers
(loaders/lora_conversion_utils.py), Nerogar/OneTrainer (modules/util/convert_lora_util.py and, for
its OMI files, its older modules/util/convert/lora), bghira/SimpleTuner
(helpers/training/save_hooks.py), and Comfy-Org/ComfyUI (comfy/lora.py), which reads them all.
"""

from collections.abc import Collection, Iterator

from engine_build.checkpoint.single_file.stability import stability_modules
from engine_build.lora.family import FamilyNames, Numbering, Prefix

FAMILY = "sdxl"

# Names that diffusers once had for the projections of CLIP's attention.
_OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def _diffusers(modules: Collection[str]) -> Iterator[tuple[str, str]]:
    for module in modules:
        yield module, module
        # The attention processors of old diffusers have `to_out`.
        yield module.removesuffix(".0"), module


def _stability(modules: Collection[str]) -> Iterator[tuple[str, str]]:
    yield from stability_modules(modules).items()


def _transformers(modules: Collection[str]) -> Iterator[tuple[str, str]]:
    for module in modules:
        path, dot, layer = module.rpartition(".")
        for name in (module, path + dot + _OLD_PROJECTIONS.get(layer, layer)):
            yield name, module
            # transformers 5 saves without this prefix.
            yield name.removeprefix("text_model."), module


def _unread(_modules: Collection[str]) -> Iterator[tuple[str, str]]:
    yield from ()


_UNET = (
    Numbering(
        "diffusers",
        ("down_blocks.", "mid_block.", "up_blocks.", "time_embedding.", "add_embedding.", "conv_"),
        _diffusers,
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    ),
    Numbering(
        "Stability",
        ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out."),
        _stability,
        "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
    ),
)
_CLIP = (
    Numbering(
        "transformers",
        ("text_model.", "encoder.layers.", "embeddings.", "text_projection"),
        _transformers,
        "text_model.encoder.layers.0.self_attn.q_proj",
    ),
    Numbering("OpenCLIP", ("transformer.resblocks.",), _unread),
)


def _unet(text: str, diffusers: str = "", stability: str = "") -> Prefix:
    written = {"diffusers": diffusers, "Stability": stability}
    return Prefix(text, "denoiser", {title: who for title, who in written.items() if who})


def _encoders(first: str, second: str, who: str) -> tuple[Prefix, Prefix]:
    written = {"transformers": who}
    return Prefix(first, "text_encoder", written), Prefix(second, "text_encoder_2", written)


NAMES = FamilyNames(
    titles={
        "denoiser": "the UNet",
        "text_encoder": "the first text encoder (CLIP-L)",
        "text_encoder_2": "the second text encoder (CLIP-G)",
    },
    numberings={"denoiser": _UNET, "text_encoder": _CLIP, "text_encoder_2": _CLIP},
    prefixes=(
        _unet("lora_unet_", "OneTrainer (Legacy)", "kohya's sd-scripts, LyCORIS, OneTrainer"),
        _unet("unet.", "diffusers, SimpleTuner, OneTrainer", "OneTrainer (OMI)"),
        _unet("lycoris_", "LyCORIS' own wrapper, SimpleTuner"),
        _unet("diffusion_model.", "", "ComfyUI, OneTrainer"),
        _unet("model.diffusion_model.", "", "tools that keep a checkpoint's names"),
        _unet("", "PEFT, after `base_model.model.`", "OneTrainer (Original)"),
        *_encoders("lora_te1_", "lora_te2_", "kohya's sd-scripts, LyCORIS, OneTrainer"),
        *_encoders("text_encoder.", "text_encoder_2.", "diffusers, OneTrainer"),
        *_encoders(
            "text_encoders.clip_l.transformer.",
            "text_encoders.clip_g.transformer.",
            "ComfyUI, OneTrainer",
        ),
        *_encoders("text_encoders.clip_l.", "text_encoders.clip_g.", "ComfyUI, short"),
        *_encoders("clip_l.", "clip_g.", "OneTrainer (OMI)"),
        Prefix(
            "conditioner.embedders.0.transformer.",
            "text_encoder",
            {"transformers": "tools that keep a checkpoint's names"},
        ),
        # Stability's second encoder is OpenCLIP's, whose layers are only told of.
        Prefix("conditioner.embedders.1.model.", "text_encoder_2", {}),
        # ComfyUI and diffusers take the only text encoder of a file for the first.
        Prefix("lora_te_", "text_encoder", {"transformers": "kohya's sd-scripts, one encoder"}),
    ),
    elsewhere={
        "lora_te3_": "a third text encoder (T5)",
        "text_encoder_3.": "a third text encoder (T5)",
        "text_encoders.t5xxl.": "a third text encoder (T5)",
        "t5.": "a third text encoder (T5)",
        "t5xxl.": "a third text encoder (T5)",
        "lora_transformer_": "a transformer",
        "transformer.": "a transformer",
        "lora_prior_": "Stable Cascade's prior",
        "vae.": "the VAE",
        "first_stage_model.": "the VAE",
        "control_model.": "a ControlNet",
    },
    unclear={
        "lycoris_text_model.": "one of the text encoders",
        "text_model.": "one of the text encoders",
    },
)
