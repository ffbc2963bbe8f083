"""Recognises a checkpoint file by the names, shapes and dtypes of its tensors."""

from engine_build.checkpoint.printable import printable
from engine_build.checkpoint.single_file import bfl
from engine_build.checkpoint.single_file.chroma import CHROMA
from engine_build.checkpoint.single_file.family import SingleFileFamily, SingleFileHeader
from engine_build.checkpoint.single_file.flux import FLUX
from engine_build.checkpoint.single_file.not_served import DIFFUSERS_NETWORK, NOT_SERVED
from engine_build.checkpoint.single_file.sdxl import SDXL
from engine_build.checkpoint.single_file.signs import Sign, begins, both
from engine_build.checkpoint.single_file.zimage import ZIMAGE
from engine_build.checkpoint.weights import DTYPES
from runtime.errors import SourceError

_QUANTISED = (
    ".scale_weight",
    ".weight_scale",
    ".absmax",
    ".quant_map",
    ".qweight",
    ".comfy_quant",
    "scaled_fp8",
)
_SERVED = "SDXL, Flux, Chroma or Z-Image"

# The first that applies. Diffusers' own names of a network stand beside the published file's.
_FAMILIES: tuple[tuple[SingleFileFamily, Sign], ...] = (
    (CHROMA, both(begins("distilled_guidance_layer."), begins(*bfl.MARKS))),
    (FLUX, begins("double_blocks.")),
    (FLUX, both(begins("single_transformer_blocks."), begins("time_text_embed."))),
    (ZIMAGE, begins("cap_pad_token")),
    (SDXL, both(begins("input_blocks."), begins("label_emb."))),
    (SDXL, both(begins("down_blocks."), begins("add_embedding."))),
)


def recognise(header: SingleFileHeader) -> SingleFileFamily:
    """The family of a checkpoint. Raises SourceError that names what the file is instead."""
    tensors = header.tensors
    other = next((what for what, is_it in NOT_SERVED if is_it(tensors)), None)
    found = next((family for family, is_it in _FAMILIES if is_it(tensors)), None)
    if found is None or other is not None:
        diffusers, is_network = DIFFUSERS_NETWORK
        unknown = "of no family that we know by its tensors' names"
        unknown = diffusers if is_network(tensors) else unknown
        raise SourceError(
            f"{header.path}: {other or unknown}, expected a checkpoint of {_SERVED} as a single "
            "file, or a diffusers folder"
        )
    _refuse_quantised(header)
    return found


def _refuse_quantised(header: SingleFileHeader) -> None:
    for name, tensor in header.tensors.items():
        stored = tensor.dtype not in DTYPES and len(tensor.shape) >= 2
        if (stored and not name.endswith("position_ids")) or name.endswith(_QUANTISED):
            how = "in double precision" if tensor.dtype == "F64" else "quantised"
            raise SourceError(
                f"{header.path}: its weights are {how} ({printable(name)} is stored as "
                f"{tensor.dtype}), which is not read; fetch the same checkpoint in fp16, bf16 or "
                "fp32"
            )
