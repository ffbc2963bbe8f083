"""The scale of layers, from each place where a file may state it."""

import json
import logging
from typing import Any

import pytest
import torch

from engine_build.lora.packs import LoraRequest, add_pack
from runtime.errors import SourceError
from runtime.package.manifest import ModelPackage
from tests.tiny.lora_files import DIFFUSERS, KOHYA, PEFT, LoraWriter, Spelling

LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
RANK = 4


def scale_of(
    package: ModelPackage,
    spelling: Spelling,
    metadata: dict[str, str],
    path: str = LINEAR,
    beside: dict[str, Any] | None = None,
) -> float:
    """The scale of one layer of rank 4 that has no alpha of its own."""
    writer = LoraWriter(spelling)
    shape = package.manifest.roles["denoiser"].parameters[f"{path}.weight"].shape
    writer.lora(path, shape, RANK, None)
    return scale_written(package, writer, metadata, beside)


def scale_written(
    package: ModelPackage,
    writer: LoraWriter,
    metadata: dict[str, str],
    beside: dict[str, Any] | None = None,
) -> float:
    name = "file" if beside is None else "adapter_model"
    file = writer.save(package.path / f"{name}.safetensors", metadata)
    if beside is not None:
        (package.path / "adapter_config.json").write_text(json.dumps(beside))
    (target,) = add_pack(package, LoraRequest(file, "file")).record.targets
    return target.scale


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [
        ({}, 1.0),
        ({"lora_alpha": "8", "r": "4"}, 2.0),
        ({"alpha": "8", "rank": "4"}, 2.0),
        ({"network_alpha": "2"}, 0.5),
        ({"unet.lora_alpha": "8", "unet.r": "4"}, 2.0),
        ({"text_encoder.lora_alpha": "8"}, 1.0),
        ({"lora_alpha": "8", "use_rslora": "true"}, 4.0),
        ({"lora_alpha": "8", "alpha_pattern": json.dumps({"attn1.to_q": 2})}, 0.5),
        ({"lora_alpha": "8", "alpha_pattern": json.dumps({"attn2.to_q": 2})}, 2.0),
        ({"peft_config": json.dumps({"lora_alpha": 12, "r": 4})}, 3.0),
        ({"lora_adapter_metadata": json.dumps({"lora_alpha": 8, "r": 4})}, 2.0),
        ({"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.r": 4})}, 2.0),
    ],
    ids=str,
)
def test_metadata_of_peft(demo: ModelPackage, metadata: dict[str, str], scale: float) -> None:
    assert scale_of(demo, DIFFUSERS, metadata) == scale


@pytest.mark.parametrize(
    ("path", "metadata", "scale"),
    [
        (LINEAR, {"ss_network_alpha": "2.0", "ss_network_dim": "4"}, 0.5),
        (LINEAR, {"ss_network_alpha": "Dynamic"}, 1.0),
        (LINEAR, {"ss_network_alpha": "None", "ss_network_args": "no JSON"}, 1.0),
        (CONV, {"ss_network_alpha": "8", "ss_network_args": '{"conv_alpha": "1"}'}, 0.25),
    ],
)
def test_metadata_of_kohyas_scripts(
    demo: ModelPackage, path: str, metadata: dict[str, str], scale: float
) -> None:
    assert scale_of(demo, KOHYA, metadata, path) == scale


@pytest.mark.parametrize("wrong", ["auto", "nan", "", "1e999", "[1]", "9" * 5_000])
def test_an_option_of_kohyas_scripts_that_is_no_number_is_refused(
    demo: ModelPackage, wrong: str
) -> None:
    arguments = json.dumps({"conv_alpha": wrong})
    for name, module, path, metadata in (
        ("ss_network_alpha", KOHYA, LINEAR, {"ss_network_alpha": wrong}),
        ("ss_network_alpha", DIFFUSERS, LINEAR, {"ss_network_alpha": wrong}),
        ("conv_alpha", KOHYA, CONV, {"ss_network_args": arguments}),
    ):
        with pytest.raises(SourceError, match=f"it states {name} '.*', expected a number"):
            scale_of(demo, module, metadata, path)


def test_an_option_of_kohyas_scripts_is_read_where_it_counts(demo: ModelPackage) -> None:
    assert scale_of(demo, KOHYA, {"ss_network_alpha": "auto", "lora_alpha": "8"}) == 2.0


def test_kohyas_alpha_is_in_factors_that_were_renamed(
    demo: ModelPackage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert scale_of(demo, DIFFUSERS, {"ss_network_alpha": "8"}) == 1.0
    assert "states the alpha 8 of kohya's scripts" in caplog.text


@pytest.mark.parametrize("path", ["(.*)*(.*)*z", "(?:a+)+", ".*.*.*.*.*z", "[a-z]+(x){2,}"])
def test_an_expression_that_may_never_end_is_refused(demo: ModelPackage, path: str) -> None:
    config = json.dumps({"lora_alpha": 8, "r": 4, "alpha_pattern": {path: 2}})
    with pytest.raises(SourceError, match=r"alpha_pattern .* without repeated groups"):
        scale_of(demo, DIFFUSERS, {"lora_adapter_metadata": config})


@pytest.mark.parametrize("path", ["(" * 5000 + ")" * 5000, "a{99999999999999}", "("])
def test_an_expression_that_is_none_is_text(demo: ModelPackage, path: str) -> None:
    config = json.dumps({"lora_alpha": 8, "r": 4, "alpha_pattern": {path: 2}})
    assert scale_of(demo, DIFFUSERS, {"lora_adapter_metadata": config}) == 2.0


def test_an_alpha_of_the_layer_comes_first(demo: ModelPackage) -> None:
    writer = LoraWriter()
    writer.lora(LINEAR, demo.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape, 4, 1)
    metadata = {"lora_alpha": "8", "ss_network_alpha": "8"}
    assert scale_written(demo, writer, metadata) == 0.25


def test_an_alpha_as_simpletuner_names_it(demo: ModelPackage) -> None:
    writer = LoraWriter(DIFFUSERS)
    shape = demo.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape
    writer.lora(LINEAR, shape, RANK, None)
    writer.tensors[DIFFUSERS.module(LINEAR) + ".lora_alpha"] = torch.tensor([2], dtype=torch.int64)
    assert scale_written(demo, writer, {}) == 0.5


def test_peft_scales_whole_kronecker_factors_too(demo: ModelPackage) -> None:
    writer = LoraWriter(PEFT)
    out, inputs = demo.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape
    writer.add(LINEAR, ".lokr_w1", 4, 4)
    writer.add(LINEAR, ".lokr_w2", out // 4, inputs // 4)
    assert scale_written(demo, writer, {}, {"r": 8, "alpha": 16, "peft_type": "LOKR"}) == 2.0


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "olora", "corda", "loftq"])
def test_factors_of_other_weights_than_the_models_are_refused(
    demo: ModelPackage, start: str
) -> None:
    settings = {"unet.r": 4, "unet.lora_alpha": 4, "unet.init_lora_weights": start}
    with pytest.raises(SourceError, match=f"it began as {start}, which takes its factors out of"):
        scale_of(demo, DIFFUSERS, {"lora_adapter_metadata": json.dumps(settings)})


@pytest.mark.parametrize("start", [True, "gaussian", "eva", "orthogonal"])
def test_other_beginnings_leave_the_models_weights(demo: ModelPackage, start: object) -> None:
    settings = {"r": 4, "lora_alpha": 8, "init_lora_weights": start}
    assert scale_of(demo, DIFFUSERS, {"lora_adapter_metadata": json.dumps(settings)}) == 2.0


def test_magnitudes_that_a_configuration_promises_must_be_there(demo: ModelPackage) -> None:
    settings = {"r": 4, "lora_alpha": 8, "use_dora": True}
    with pytest.raises(SourceError, match="it says use_dora and has no magnitudes"):
        scale_of(demo, DIFFUSERS, {"lora_adapter_metadata": json.dumps(settings)})


def test_an_alpha_of_0_is_refused(demo: ModelPackage) -> None:
    """Kohya's scripts and LyCORIS read a 0 as the rank, ComfyUI as 0."""
    with pytest.raises(SourceError, match=r"attn1\.to_q has an alpha of 0, with which nothing"):
        scale_of(demo, DIFFUSERS, {"lora_alpha": "0"})


@pytest.mark.parametrize("wrong", ["auto", "NaN", "[]", "1e999", "{}"])
def test_an_alpha_that_is_no_number_is_refused(demo: ModelPackage, wrong: str) -> None:
    with pytest.raises(SourceError, match=r"it states lora_alpha .*, expected a number"):
        scale_of(demo, DIFFUSERS, {"lora_alpha": wrong})


def test_a_file_and_its_configuration_that_disagree_are_refused(demo: ModelPackage) -> None:
    with pytest.raises(SourceError, match=r"lora_alpha 8, and adapter_config\.json beside 16"):
        scale_of(demo, PEFT, {"lora_alpha": "8"}, beside={"r": 4, "lora_alpha": 16})
