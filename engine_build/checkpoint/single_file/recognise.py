"""Recognises a checkpoint file by the names, shapes and dtypes of its tensors."""

from collections.abc import Callable

from engine_build.checkpoint.single_file.chroma import CHROMA
from engine_build.checkpoint.single_file.family import SingleFileFamily, SingleFileHeader, Tensors
from engine_build.checkpoint.single_file.flux import FLUX
from engine_build.checkpoint.single_file.sdxl import SDXL
from engine_build.checkpoint.single_file.zimage import ZIMAGE
from engine_build.checkpoint.weights import DTYPES
from runtime.errors import SourceError

_UNET = "model.diffusion_model."
_LORA = (".lora_up.", ".lora_down.", ".lora_A.", ".lora_B.", ".hada_w1", ".lokr_w", ".oft_blocks")
_QUANTISED = (".scale_weight", ".weight_scale", ".absmax", ".quant_map", ".qweight")


def recognise(header: SingleFileHeader) -> SingleFileFamily:
    """The family of a checkpoint. Raises SourceError that names what the file is instead."""
    tensors = header.tensors
    for what, is_it in _NOT_SERVED:
        if is_it(tensors):
            raise SourceError(
                f"{header.path}: {what}, expected a checkpoint of {_SERVED} as a single file, or "
                "a diffusers folder"
            )
    found = next((family for family, is_it in _FAMILIES if is_it(tensors)), None)
    if found is None:
        raise SourceError(
            f"{header.path}: of no family that we know by its tensors' names, expected a "
            f"checkpoint of {_SERVED} as a single file, or a diffusers folder"
        )
    _refuse_quantised(header)
    return found


def _refuse_quantised(header: SingleFileHeader) -> None:
    for name, tensor in header.tensors.items():
        stored = tensor.dtype not in DTYPES and len(tensor.shape) >= 2
        if (stored and not name.endswith("position_ids")) or name.endswith(_QUANTISED):
            raise SourceError(
                f"{header.path}: its weights are quantised ({name} is stored as {tensor.dtype}), "
                "which is not read; fetch the same checkpoint in fp16, bf16 or fp32"
            )


def _begins(*beginnings: str) -> Callable[[Tensors], bool]:
    """True where a tensor's name begins so, after the prefix that ComfyUI adds to denoisers."""
    return lambda tensors: any(name.removeprefix(_UNET).startswith(beginnings) for name in tensors)


def _has(*parts: str) -> Callable[[Tensors], bool]:
    return lambda tensors: any(part in name for name in tensors for part in parts)


def _without(part: str, marks: Callable[[Tensors], bool]) -> Callable[[Tensors], bool]:
    return lambda tensors: marks(tensors) and not _has(part)(tensors)


def _channels_in(name: str, expected: int) -> Callable[[Tensors], bool]:
    """True where a denoiser also reads other latents: a mask's, or a picture's."""

    def differ(tensors: Tensors) -> bool:
        first = tensors.get(_UNET + name) or tensors.get(name)
        return first is not None and len(first.shape) > 1 and first.shape[1] != expected

    return differ


def _text_to_image(marks: Callable[[Tensors], bool]) -> Callable[[Tensors], bool]:
    """True where the marks of a text-to-image model are there beside a UNet in SGM's naming."""
    return lambda tensors: marks(tensors) and _begins("input_blocks.")(tensors)


def _only(*prefixes: str) -> Callable[[Tensors], bool]:
    return lambda tensors: bool(tensors) and all(name.startswith(prefixes) for name in tensors)


_SERVED = "SDXL, Flux, Chroma or Z-Image"

# The first that applies: what holds for several is asked last.
_NOT_SERVED: tuple[tuple[str, Callable[[Tensors], bool]], ...] = (
    ("a LoRA, which is laid over a model and not built", _has(*_LORA)),
    ("a ControlNet, which is not served", _has("control_model.", "controlnet_", "input_hint_")),
    ("a textual inversion, which is not served", _only("clip_l", "clip_g", "emb_params")),
    (
        "a VAE alone",
        _only("first_stage_model.", "encoder.", "decoder.", "quant_conv.", "post_quant_conv."),
    ),
    ("Stable Diffusion 3, which is not served", _begins("joint_blocks.")),
    ("Flux 2, which is not served", _begins("double_stream_modulation_img.")),
    ("AuraFlow, which is not served", _begins("double_layers.")),
    ("HunyuanVideo, which is not served", _has("txt_in.individual_token_refiner.")),
    ("Chroma Radiance, which is not served", _begins("nerf_")),
    ("Lumina 2, which is not served", _without("cap_pad_token", _begins("cap_embedder."))),
    ("Playground 2.5, whose EDM sampling is not served", _begins("edm_mean")),
    ("a model of EDM's v-prediction such as CosXL, which is not served", _begins("edm_vpred.")),
    ("SDXL's refiner, which is not served", _has("conditioner.embedders.0.model.")),
    ("Stable Diffusion 1, which is not served", _has("cond_stage_model.transformer.")),
    ("Stable Diffusion 2, which is not served", _has("cond_stage_model.model.")),
    (
        "a model of inpainting or editing, which is not served",
        _channels_in("input_blocks.0.0.weight", 4),
    ),
    (
        "a Flux of the kind that reads a picture (Fill, Canny, Depth), which is not served",
        _channels_in("img_in.weight", 64),
    ),
    (
        "one network of a diffusers folder; give the whole folder",
        _begins("down_blocks.", "transformer_blocks.", "single_transformer_blocks."),
    ),
)

_FAMILIES: tuple[tuple[SingleFileFamily, Callable[[Tensors], bool]], ...] = (
    (CHROMA, _begins("distilled_guidance_layer.")),
    (FLUX, _begins("double_blocks.")),
    (ZIMAGE, _begins("cap_pad_token")),
    (SDXL, _text_to_image(_has("conditioner.embedders.1.model."))),
)
