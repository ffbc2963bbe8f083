"""Headers of any names, shapes and dtypes: a family, or one line that says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_build.checkpoint.single_file.family import DENOISER_PREFIXES, SingleFileHeader
from engine_build.checkpoint.single_file.recognise import recognise
from engine_build.checkpoint.weights import StoredTensor
from runtime.errors import SourceError

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
NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(DENOISER_PREFIXES),
        st.sampled_from(BEGINNINGS) | st.sampled_from(OUTSIDE),
        st.sampled_from(INSIDE),
        st.sampled_from(INSIDE),
        st.sampled_from(INSIDE),
    ),
) | st.text(max_size=8)
SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
TENSORS = st.builds(
    lambda shape, dtype: StoredTensor(PATH, 0, 24, dtype, shape),
    SHAPES,
    st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "U8", "F8_E4M3", "BOOL"]),
)
TEXT = st.text(max_size=9)
METADATA = st.dictionaries(
    st.sampled_from(["modelspec.prediction_type", "modelspec.predict_key"]) | TEXT,
    st.sampled_from(["v", "epsilon"]) | TEXT,
    max_size=2,
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "layers_per_block": st.integers(-1, 3) | st.just([2, 2]) | TEXT,
        "block_out_channels": st.lists(st.integers(), max_size=4) | st.integers(),
        "guidance_embeds": st.booleans(),
    },
)


@given(tensors=st.dictionaries(NAMES, TENSORS, max_size=6), metadata=METADATA, config=CONFIGS)
def test_any_header_is_a_family_or_a_line(
    tensors: dict[str, StoredTensor], metadata: dict[str, str], config: dict[str, object]
) -> None:
    header = SingleFileHeader(PATH, tensors, metadata)
    said = refusal(lambda: read_all(header, config))
    assert said is None or str(PATH) in said
    assert len((said or "").splitlines()) <= 1


def read_all(header: SingleFileHeader, config: dict[str, object]) -> None:
    family = recognise(header)
    assert family.denoiser in family.held(header.tensors)
    for network in family.networks.values():
        assert bool(network.find(header, config)) == network.is_in(header.tensors)
    family.scheduler({}, header)


def refusal(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except SourceError as error:
        return str(error)
    return None


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
