"""Headers of any names, shapes and dtypes: a family, or one line that says what is wrong."""

from pathlib import Path
from random import Random

import pytest

from engine_build.checkpoint.single_file.family import DENOISER_PREFIXES, SingleFileHeader
from engine_build.checkpoint.single_file.recognise import recognise
from engine_build.checkpoint.weights import StoredTensor
from runtime.errors import SourceError
from tests.hostile import odd_text, odd_value, refusal
from tests.inputs import Inputs

PATH = Path("model.safetensors")
BEGINNINGS = (
    "input_blocks.",
    "output_blocks.",
    "label_emb.",
    "middle_block.1.",
    "double_blocks.",
    "single_blocks.",
    "distilled_guidance_layer.",
    "cap_pad_token",
    "layers.0.attention.qkv.",
    "down_blocks.",
    "add_embedding.",
)
OUTSIDE = (
    "first_stage_model.decoder.up.",
    "vae.decoder.up.",
    "conditioner.embedders.0.transformer.text_model.",
    "conditioner.embedders.1.model.transformer.resblocks.0.",
    "conditioner.embedders.1.model.",
    "text_encoders.t5xxl.transformer.encoder.block.",
    "v_pred",
    "ztsnr",
)
INSIDE = (
    "0.",
    "1.",
    "9" * 5000 + ".",
    "img_attn.qkv.",
    "img_in.",
    "linear1.",
    "attn.in_proj_",
    "text_projection",
    "block.0.",
    "weight",
    "bias",
    "scale",
    "",
)
DTYPES = ("F32", "F16", "BF16", "F64", "I64", "U8", "F8_E4M3", "BOOL")
KEYS = ("modelspec.prediction_type", "modelspec.predict_key")


def any_name(chance: Random) -> str:
    if chance.randrange(4) == 0:
        return odd_text(chance, 8)
    inside = "".join(chance.choices(INSIDE, k=3))
    return chance.choice(DENOISER_PREFIXES) + chance.choice((*BEGINNINGS, *OUTSIDE)) + inside


def any_tensor(chance: Random) -> StoredTensor:
    shape = tuple(chance.randrange(8) for _ in range(chance.randrange(5)))
    return StoredTensor(PATH, 0, 24, chance.choice(DTYPES), shape)


def any_header(chance: Random) -> SingleFileHeader:
    metadata = {
        chance.choice((*KEYS, odd_text(chance, 9))): chance.choice(("v", "epsilon", "e"))
        for _ in range(chance.randrange(3))
    }
    tensors = {any_name(chance): any_tensor(chance) for _ in range(chance.randrange(7))}
    return SingleFileHeader(PATH, tensors, metadata)


def any_config(chance: Random) -> dict[str, object]:
    whole = {
        "layers_per_block": chance.choice((chance.randrange(-1, 4), [2, 2], odd_value(chance))),
        "block_out_channels": chance.choice(([1, 2**70], [], odd_value(chance))),
        "guidance_embeds": chance.choice((True, False, odd_value(chance))),
    }
    return {key: whole[key] for key in chance.sample(list(whole), chance.randrange(4))}


@pytest.mark.fuzz
def test_any_header_is_a_family_or_a_line(inputs: Inputs) -> None:
    for chance in inputs:
        header, config = any_header(chance), any_config(chance)
        said = refusal(lambda _, header=header, config=config: read_all(header, config), PATH)
        assert said is None or str(PATH) in said


def read_all(header: SingleFileHeader, config: dict[str, object]) -> None:
    family = recognise(header)
    assert family.denoiser in family.held(header.tensors)
    for network in family.networks.values():
        assert bool(network.find(header, config)) == network.is_in(header.tensors)
    family.scheduler({}, header)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("double_blocks.0.img_attn.qkv.weight", ()),
        ("double_blocks." + "9" * 5000 + ".img_attn.qkv.weight", ()),
        ("input_blocks." + "9" * 5000 + ".0.op.weight", (2, 2)),
    ],
)
def test_a_shape_that_cannot_be_is_named(name: str, shape: tuple[int, ...]) -> None:
    tensors = {
        "img_in.weight": StoredTensor(PATH, 0, 8, "F32", (2, 64)),
        "label_emb.0.0.weight": StoredTensor(PATH, 0, 8, "F32", (2, 2)),
        name: StoredTensor(PATH, 8, 0, "F32", shape),
    }
    header = SingleFileHeader(PATH, tensors, {})
    family = recognise(header)
    with pytest.raises(SourceError, match=r"model.safetensors: damaged, or its base's config.json"):
        family.networks[family.denoiser].find(header, {})
