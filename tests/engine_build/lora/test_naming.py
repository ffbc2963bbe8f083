"""Every spelling of every layer, on the demo package and on SDXL as it is published."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.real_size import MODELS
from benchmarks.tiny.models import unet
from engine_build.checkpoint.single_file.stability import diffusers_module, stability_modules
from engine_build.lora.naming import (
    LeftOver,
    Naming,
    canonical,
    name_rows,
    refuse_whole_networks,
)
from runtime.errors import SourceError
from runtime.package.manifest import Manifest, Parameter, read_package
from tests.engine_build.checkpoint.single_file import sgm
from tests.hostile import odd_text
from tests.inputs import Inputs
from tests.places import ENGINES
from tests.tiny.manifests import MANIFEST

UNET = ("lora_unet_", "unet.", "lycoris_", "diffusion_model.", "model.diffusion_model.", "")
ENCODERS = {
    "text_encoder": (
        "lora_te1_",
        "lora_te_",
        "text_encoder.",
        "text_encoders.clip_l.transformer.",
        "text_encoders.clip_l.",
        "clip_l.",
        "conditioner.embedders.0.transformer.",
    ),
    "text_encoder_2": (
        "lora_te2_",
        "text_encoder_2.",
        "text_encoders.clip_g.transformer.",
        "text_encoders.clip_g.",
        "clip_g.",
    ),
}
UNET_LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT_LAYER = "text_model.encoder.layers.0.self_attn.q_proj"


def published() -> Manifest:
    """SDXL's parameters as published, without one value."""
    configs = {network.name: network.settings for network in MODELS["sdxl"].networks}
    with torch.device("meta"):
        networks = {
            "denoiser": UNet2DConditionModel.from_config({**unet().config, **configs["unet"]}),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
            "text_encoder_2": CLIPTextModelWithProjection(
                CLIPTextConfig(**configs["text_encoder_2"])
            ),
        }
    roles = {}
    for role, network in networks.items():
        names = {
            name if role == "denoiser" or name.startswith("text_") else f"text_model.{name}": value
            for name, value in network.state_dict().items()
        }
        parameters = {
            name: Parameter(name, tuple(value.shape), "F16") for name, value in names.items()
        }
        roles[role] = replace(MANIFEST.roles["denoiser"], parameters=parameters)
    return replace(MANIFEST, roles=roles)


@pytest.fixture(scope="module", params=["demo", "published"])
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return published() if request.param == "published" else read_package(ENGINES, "demo").manifest


def layers(manifest: Manifest, role: str) -> list[str]:
    parameters = manifest.roles[role].parameters
    return [name.removesuffix(".weight") for name in parameters if name.endswith(".weight")]


def spelled(manifest: Manifest) -> Iterator[tuple[str, tuple[str, str]]]:
    """The whole product; Stability's names come from the writer of test checkpoints."""
    layers_per_block = 2
    weights = {f"{module}.weight": torch.empty(0) for module in layers(manifest, "denoiser")}
    for module in layers(manifest, "denoiser"):
        for name in (module, module.removesuffix(".0"), module.replace(".to_", ".processor.to_")):
            for prefix in UNET:
                yield prefix + name, ("denoiser", f"{module}.weight")
    for name, module in zip(sgm.unet(weights, layers_per_block), weights, strict=True):
        for prefix in UNET:
            yield prefix + name.removesuffix(".weight"), ("denoiser", module)
    for role, prefixes in ENCODERS.items():
        for module in layers(manifest, role):
            for prefix in prefixes:
                yield prefix + module, (role, f"{module}.weight")
                yield prefix + module.removeprefix("text_model."), (role, f"{module}.weight")


def test_every_spelling_finds_its_parameter_and_no_other(manifest: Manifest) -> None:
    naming = Naming(manifest)
    found: dict[str, tuple[str, str]] = {}
    for name, place in spelled(manifest):
        assert found.setdefault(canonical(name), place) == place, name
        for form in (name, name.replace(".", "_"), f"base_model.model.{name}"):
            assert naming.place(form) == place, form
    parameters = sum(len(layers(manifest, role)) for role in ("denoiser", *ENCODERS))
    assert len(set(found.values())) == parameters > 300


def test_both_directions_of_stability_are_one_table(manifest: Manifest) -> None:
    named = stability_modules(layers(manifest, "denoiser"))
    assert len(named) == len(layers(manifest, "denoiser"))
    for stability, module in named.items():
        assert diffusers_module(stability, layers_per_block=2) == module
        assert diffusers_module(module, layers_per_block=2) == module


def test_each_row_for_people_is_an_example_that_is_read(manifest: Manifest) -> None:
    naming = Naming(manifest)
    rows = tuple(name_rows())
    assert len({(row.prefix, row.numbering) for row in rows}) == len(rows) > 15
    for row in rows:
        layer = UNET_LAYER if row.network == "the UNet" else TEXT_LAYER
        place = naming.place(row.example)
        assert place is not None
        assert place[1] == f"{layer}.weight"
    named = {row.prefix for row in rows}
    assert named == {*UNET, *ENCODERS["text_encoder"], *ENCODERS["text_encoder_2"]}


@pytest.mark.parametrize(
    "wrapper", ["base_model.model.", "_orig_mod.", "base_model.model._orig_mod."]
)
def test_wrappers_of_a_network_are_no_part_of_its_names(manifest: Manifest, wrapper: str) -> None:
    naming = Naming(manifest)
    for name in (wrapper + UNET_LAYER, f"unet.{wrapper}{UNET_LAYER}"):
        assert naming.place(name) == ("denoiser", f"{UNET_LAYER}.weight")


@pytest.fixture(scope="module")
def naming() -> Naming:
    return Naming(read_package(ENGINES, "demo").manifest)


@pytest.mark.parametrize(
    ("module", "part", "reason"),
    [
        ("unet.down_blocks.9.resnets.0.conv1", "the UNet", "demo has no such layer in diffusers'"),
        ("lora_unet_input_blocks_40_1_proj_in", "the UNet", "no such layer in Stability's"),
        ("lora_unet_joint_blocks_0_x", "the UNet", "names of a numbering that is not known"),
        ("lora_te2_text_model_encoder_layers_99_mlp_fc1", "the second text", "no such layer in tr"),
        (
            "clip_g.transformer.resblocks.0.mlp.c_fc",
            "the second text",
            "names of OpenCLIP's numbering, which is not read",
        ),
        ("lora_te3_encoder_block_0", "a third text encoder", "demo has no such network"),
        ("lycoris_text_model_encoder_layers_0", "one of the text enc", "do not say which"),
        ("base_model.model." + TEXT_LAYER, "one of the text enc", "do not say which"),
        ("my_net_down_blocks_0_x", "the UNet after 'my_net_'", "a prefix that is not known"),
        ("mine.text_model.x", "the first text .* after 'mine_'", "a prefix that is not known"),
        ("something.else", "a network that is not known", "neither prefix nor numbering"),
    ],
)
def test_what_has_no_place_has_a_reason(
    naming: Naming, module: str, part: str, reason: str
) -> None:
    (found,) = naming.left_over([module])
    assert re.search(part, found.part)
    assert re.search(reason, found.reason)
    assert found.modules == (module,)


def test_what_has_a_place_is_not_left_over(naming: Naming) -> None:
    assert naming.left_over([f"unet.{UNET_LAYER}", f"text_encoder.{TEXT_LAYER}"]) == ()


def test_a_network_is_left_out_whole_or_in_part(naming: Naming) -> None:
    nowhere = ["unet.down_blocks.9.x", "unet.down_blocks.8.x"]
    (alone,) = naming.left_over(nowhere)
    assert alone.whole
    assert alone.modules == tuple(sorted(nowhere))
    (beside,) = naming.left_over([*nowhere, f"lora_unet_{UNET_LAYER}"])
    assert not beside.whole
    (encoder,) = naming.left_over([f"unet.{UNET_LAYER}", "lora_te2_text_model_x"])
    assert encoder.whole
    (unknown,) = naming.left_over([f"unet.{UNET_LAYER}", "_aux.0"])
    assert not unknown.whole


def test_a_network_that_is_left_out_whole_is_named(tmp_path: Path) -> None:
    part = LeftOver("the UNet", "unknown", ("c", "d"), whole=False)
    refuse_whole_networks(tmp_path, [part])
    whole = LeftOver("the second text encoder", "unknown", ("a", "b"), whole=True)
    with pytest.raises(SourceError, match=r"2 layers of the second text encoder: unknown \(a, b\)"):
        refuse_whole_networks(tmp_path, [part, whole])


PIECES = (
    *UNET,
    *ENCODERS["text_encoder"],
    *ENCODERS["text_encoder_2"],
    UNET_LAYER,
    TEXT_LAYER,
    "base_model.model.",
    "lora_te3_",
    "input_blocks.4.1.",
    "transformer.resblocks.0.",
)


def any_name(chance: Random) -> str:
    pieces = (chance.choice(PIECES) if chance.randrange(3) else odd_text(chance, 6) for _ in "1234")
    return "".join(islice(pieces, chance.randint(1, 4)))


@pytest.mark.fuzz
def test_each_layer_has_a_place_or_one_reason(naming: Naming, inputs: Inputs) -> None:
    for chance in inputs:
        names = {any_name(chance) for _ in range(chance.randrange(8))}
        left_over = naming.left_over(names)
        left = [name for each in left_over for name in each.modules]
        assert len(left) == len(set(left))
        assert set(left) == {name for name in names if naming.place(name) is None}
        assert all(len(str(each).splitlines()) == 1 for each in left_over)


@pytest.mark.fuzz
def test_the_canonical_form_is_the_same_for_dots_and_underscores(inputs: Inputs) -> None:
    for chance in inputs:
        name = any_name(chance)
        assert canonical(name) == canonical(name.replace(".", "_"))
