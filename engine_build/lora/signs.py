"""The signs by which a file is told: its method first, then the model that it is for.

Names are compared in one form, with underscores for dots, since kohya's scripts write them so. The
signs follow what each project writes: kohya-ss/sd-scripts, LyCORIS (lycoris/modules), PEFT
(src/peft/tuners, the `prefix` of each), ComfyUI (comfy/lora.py) and diffusers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine_build.checkpoint.printable import printable
from engine_build.lora.endings import DORA_SCALE, MAGNITUDE_VECTOR, split
from engine_build.lora.naming import canonical

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Method:
    """A method whose files are refused."""

    name: str
    sign: re.Pattern[str]
    """Found in the name of a tensor, as the file spells it."""
    reason: str
    extents: int | None = None
    """The number of extents that a tensor with this sign has, where a name is two methods'."""


_ROTATION = "it multiplies a weight by a rotation, which is no difference that can be added"
_SCALING = "it multiplies a weight's rows or columns, which is no difference that can be added"
_OWN = "its formula is not known here"

REFUSED = (
    Method("BOFT", re.compile(r"\.oft_blocks$"), _ROTATION, extents=4),
    Method("BOFT", re.compile(r"[._]boft_"), _ROTATION),
    Method("OFT", re.compile(r"^oft_(unet|te)|[._]oft_"), _ROTATION),
    Method("HRA", re.compile(r"[._]hra_u"), _ROTATION),
    Method("IA3", re.compile(r"\.on_input$|\.ia3_"), _SCALING),
    Method(
        "GLoRA",
        re.compile(r"\.(a1|a2|b1|b2|bm)\.weight$|\.glora_"),
        "it mixes a weight with itself",
    ),
    Method(
        "T-LoRA",
        re.compile(r"\.(lambda_layer|[pq]_layer\.weight)$"),
        "its rank depends on the step of the picture",
    ),
    Method("VeRA", re.compile(r"\.p?vera_"), "it shares factors that its file need not hold"),
    Method("RandLoRA", re.compile(r"\.randlora_"), "it shares factors that its file need not hold"),
    Method("VB-LoRA", re.compile(r"\.vblora_"), _OWN),
    Method("FourierFT or WaveFT", re.compile(r"\.(fourierft|waveft)_"), _OWN),
    Method("MiSS or Bone", re.compile(r"\.(miss|bone)_"), _OWN),
    Method("SHiRA", re.compile(r"\.shira_"), _OWN),
    Method("C3A", re.compile(r"\.c3a_"), _OWN),
    Method("RoAd", re.compile(r"\.road_"), _ROTATION),
    Method("DeLoRA", re.compile(r"\.delora_"), _OWN),
    Method("GraLoRA", re.compile(r"\.gralora_"), _OWN),
    Method(
        "embedding LoRA",
        re.compile(r"\.lora_embedding_[AB]"),
        "an embedding has no outputs and inputs in a LoRA's order",
    ),
    Method(
        "whole weights",
        re.compile(r"\.(set_weight|reshape_weight)$|\.modules_to_save\."),
        "they replace a parameter, or its shape, instead of changing it",
    ),
)
"""The methods that are refused, the more telling sign first."""

TAKEN = "taken are LoRA, LoCon, LoHa, LoKr, DoRA on each of them, and differences of weights"

_FORMS = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "diff": "difference of weights (full)"}

EMBEDDING = "a textual inversion embedding"

KINDS = (
    (EMBEDDING, r"(^|\.)(clip_[gl]|emb_params|string_to_param)(\.|$)"),
    ("a ControlNet", r"control_model|controlnet|input_hint_block"),
    ("an IP-Adapter", r"^(image_proj|ip_adapter)\."),
    ("a motion module of AnimateDiff", r"(^|\.)motion_modules\.\d|\.temporal_transformer\."),
    (
        "a VAE",
        r"^((first_stage_model|vae)\.)?(de|en)coder\.conv(_in|_out|1)\.|^(post_)?quant_conv\.",
    ),
    (
        "an upscaler",
        r"(^|\.)(rdb|RDB)[123]\.conv|^conv_first\.|\.residual_group\.|^body\.\d+\.weight$",
    ),
    ("a CLIP encoder of pictures", r"^(vision_model|visual)\."),
    ("a text encoder", r"^text_model\.(encoder|embeddings)\.|^encoder\.block\.\d+\.layer\."),
    ("a hypernetwork", r"^(320|640|768|1280)\.[01]\.linear\."),
)
"""Files that are no LoRAs, and the sign of each."""

MODELS = (
    ("AnimateDiff, a video model", r"(^|_)motion_modules_\d|_temporal_transformer_"),
    ("a language model", r"^(base_model_model_)?model_layers_\d+_(self_attn|mlp)_"),
    ("Chroma", r"distilled_guidance_layer"),
    ("HunyuanVideo", r"txt_in_individual_token_refiner|double_blocks_\d+_(img|txt)_mlp_fc"),
    ("HiDream", r"(double|single)_stream_blocks_\d"),
    ("Flux 2", r"(double|single)_stream_modulation|attn_to_qkv_mlp_proj"),
    ("AuraFlow", r"joint_transformer_blocks_\d|double_layers_\d"),
    (
        "Flux or Chroma",
        r"(double|single)_blocks_\d+_|single_transformer_blocks_\d|lora_te2_encoder_block",
    ),
    ("Stable Diffusion 3", r"joint_blocks_\d|(lora_te3|text_encoder_3)_|pos_embed_proj"),
    ("Qwen-Image", r"transformer_blocks_\d+_(img|txt)_(mlp|mod)_|transformer_blocks_(39|[45]\d)_"),
    (
        "Z-Image or Lumina",
        r"(^|_)layers_\d+_(attention|feed_forward)|cap_embedder|(noise|context)_refiner_\d",
    ),
    (
        "Stable Diffusion 3, Flux or Qwen-Image",
        r"transformer_blocks_\d+_attn_|transformer_blocks_\d+_ff_context",
    ),
    ("Wan, a video model", r"(^|_)blocks_\d+_(cross_attn|self_attn|ffn)_"),
    ("Wan, LTX or another video model", r"^(transformer_|diffusion_model_)?blocks_\d+_attn[12]_"),
    ("Stable Cascade", r"lora_prior_(unet|te)_"),
    ("PixArt, Sana or LTX", r"^(transformer|diffusion_model)_(caption_projection|adaln_single)"),
    (
        "PixArt, Sana, LTX or another diffusion transformer",
        r"^(base_model_model_)?(transformer|diffusion_model)_transformer_blocks_\d",
    ),
    (
        "SDXL",
        r"lora_te[12]_text|text_encoder_2_|text_encoders_clip_g|(^|_)label_emb_|add_embedding",
    ),
    ("SDXL", r"(attentions_|blocks_\d+_|middle_block_)\d+_transformer_blocks_[1-9]"),
    ("Stable Diffusion 1 or 2", r"^lora_te_text_model"),
)
"""Models, and the signs of their layers' names; the more telling sign first."""

_UNET = re.compile(r"(down|up|mid)_blocks?_|(input|output|middle)_blocks?_")
_CONTEXT = re.compile(r"attn2_to_[kv](_|$)")
_CONTEXTS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
"""The width of the text that a UNet attends to."""

_WHOLE_MODEL = "model.diffusion_model."
_CHECKPOINT = re.compile(r"\.(weight|bias|scale)$")


def refused(shapes: Shapes) -> str | None:
    """The reason why a file's method is not taken; None where it has no sign of such a method."""
    found = _refused(shapes)
    if found is None:
        return None
    method, name = found
    return f"that is not taken ({printable(name)}), since {method.reason}; {TAKEN}"


def described(shapes: Shapes, metadata: Mapping[str, str]) -> str:
    """A file's method and its model, as far as names, shapes and the trainer's metadata say."""
    found = _refused(shapes)
    forms = sorted(_forms(shapes))
    if found is not None:
        method = f"a file of {found[0].name}"
    elif forms:
        method = f"a {' and '.join(forms)}"
    else:
        return _other(shapes)
    stated = metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture")
    model = _model(shapes)
    if stated:
        return f"{method} that says that it was made for {printable(stated)}"
    if model is None:
        return (
            f"{method}, for a model that its names, such as {printable(min(shapes))}, do not tell"
        )
    return f"{method} for {model}"


def _refused(shapes: Shapes) -> tuple[Method, str] | None:
    for method in REFUSED:
        for name, shape in shapes.items():
            if method.extents in {None, len(shape)} and method.sign.search(name):
                return method, name
    return None


def _forms(shapes: Shapes) -> Iterator[str]:
    """The forms that tensors have by their endings."""
    endings = [found[1] for name in shapes if (found := split(name)) is not None]
    decomposed = any(each.factor in {DORA_SCALE, MAGNITUDE_VECTOR} for each in endings)
    forms = {_FORMS[each.form] for each in endings if each.form is not None}
    if endings and not forms:
        forms = {"file of layers without factors"}
    for form in forms:
        yield {"LoRA": "DoRA"}.get(form, f"{form} with DoRA") if decomposed else form


def _model(shapes: Shapes) -> str | None:
    names = {canonical(name): shape for name, shape in shapes.items()}
    for model, sign in MODELS:
        if any(re.search(sign, name) for name in names):
            return model
    widths = {shape[1] for name, shape in names.items() if _is_context(name, shape)}
    for width, model in _CONTEXTS.items():
        if width in widths:
            return model
    if any(_UNET.search(name) for name in names):
        return "a UNet of Stable Diffusion's kind"
    return None


def _is_context(name: str, shape: tuple[int, ...]) -> bool:
    down = re.search(r"lora_down|lora_A|diff$", name)
    return bool(down and len(shape) >= 2 and _CONTEXT.search(name))


def _other(shapes: Shapes) -> str:
    """A file that has no tensor of a LoRA's ending."""
    whole = any(name.startswith(_WHOLE_MODEL) for name in shapes)
    for kind, sign in () if whole else KINDS:
        if any(re.search(sign, name) for name in shapes):
            return kind
    if any(_CHECKPOINT.search(name) for name in shapes):
        return "a checkpoint, whole weights"
    example = min(shapes, default=None)
    return (
        "empty" if example is None else f"of a kind that is not known, such as {printable(example)}"
    )
