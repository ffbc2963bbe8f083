"""Layers whose tensors do not make a change are refused, with the layer's name and the reason."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine_build.lora.packs import LoraRequest, add_pack
from runtime.draw.lora.deltas import laid
from runtime.draw.lora.weights import EffectiveWeights
from runtime.errors import PackageError, SourceError
from runtime.package.manifest import ModelPackage
from runtime.package.pack import Decomposition, LoraPack, read_pack, write_pack
from tests.tiny.lora_files import DIFFUSERS, LoraWriter

LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"  # 64 x 64, no bias
OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"  # 64 x 64, with a bias
CONV = "down_blocks.0.resnets.0.conv1"
NORM = "down_blocks.0.resnets.0.norm1"

FACTORS: dict[str, tuple[int, ...]] = {".lora_down.weight": (4, 64), ".lora_up.weight": (64, 4)}

REFUSED: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "a factor alone": ({".lora_down.weight": (4, 64)}, r"\(lora\) lacks up"),
    "a half": (
        {".hada_w1_a": (64, 2), ".hada_w1_b": (2, 64)},
        r"\(loha\) lacks w2_a and w2_b",
    ),
    "one core of two": (
        {f".hada_w{i}_{x}": (4, 4) for i in "12" for x in "ab"} | {".hada_t1": (4, 4, 1, 1)},
        r"\(loha\) lacks t2",
    ),
    "a factor whole and in parts": (
        {".lokr_w1": (4, 4), ".lokr_w2": (16, 16), ".lokr_w2_a": (16, 2)},
        r"\(lokr\) .*w2_a",
    ),
    "two forms": (FACTORS | {".diff": (64, 64)}, "factors of more than one form"),
    "magnitudes alone": ({".dora_scale": (64, 1)}, "dora_scale, which mean nothing"),
    "two spellings of magnitudes": (
        FACTORS | {".dora_scale": (64, 1), ".lora_magnitude_vector": (64,)},
        "dora_scale and .*lora_magnitude_vector, which mean nothing",
    ),
    "magnitudes for nothing": (
        FACTORS | {".dora_scale": (7, 1)},
        "a magnitude neither for each output nor for each input",
    ),
    "an alpha of two numbers": (FACTORS | {".alpha": (2,)}, "alpha, which is no single number"),
    "an alpha of a difference": ({".diff": (64, 64), ".alpha": ()}, "alpha, which mean nothing"),
    "a bias that there is not": (FACTORS | {".diff_b": (64,)}, "changes a bias, and demo has no"),
    "a tensor of another kind": (FACTORS | {".scalar": ()}, "a tensor that is not understood"),
    "an alpha of a factor": (
        FACTORS | {".lora_down.weight.alpha": ()},
        r"a tensor that is not understood, .*lora_down\.weight",
    ),
    "an empty factor": (
        {".lora_down.weight": (0, 64), ".lora_up.weight": (64, 0)},
        r"is empty, of the shape \[0, 64\]",
    ),
}


@pytest.mark.parametrize(("tensors", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_layer_that_is_no_change_is_refused(
    demo: ModelPackage, tensors: dict[str, tuple[int, ...]], reason: str
) -> None:
    writer = LoraWriter()
    for ending, shape in tensors.items():
        writer.add(LINEAR, ending, *shape)
    with pytest.raises(SourceError, match=reason) as refused:
        added(demo, writer)
    assert LINEAR.replace(".", "_") in str(refused.value)


def added(package: ModelPackage, writer: LoraWriter, identity: str = "file") -> LoraPack:
    path = writer.save(package.path / f"{identity}.safetensors")
    return add_pack(package, LoraRequest(path, identity))


@pytest.mark.parametrize("name", ["alpha", "lora_alpha", "lora_unet.alpha"])
def test_an_alpha_of_no_layer_is_refused(demo: ModelPackage, name: str) -> None:
    writer = LoraWriter()
    for ending, shape in FACTORS.items():
        writer.add(LINEAR, ending, *shape)
    path = writer.save(demo.path / "file.safetensors")
    save_file({**load_file(path), name: np.float32([2])}, path)
    with pytest.raises(SourceError, match=f"{name} is an alpha of no layer"):
        add_pack(demo, LoraRequest(path, "a test"))


def test_a_layers_tensors_may_be_spelled_apart(demo: ModelPackage) -> None:
    writer = LoraWriter()
    for ending, shape in FACTORS.items():
        writer.add(LINEAR, ending, *shape)
    writer.spelling = DIFFUSERS
    writer.add(LINEAR, ".dora_scale", 1, 64)
    (target,) = added(demo, writer).record.targets
    assert target.decomposition == Decomposition("inputs", "lycoris")


def test_differences_of_weights_biases_and_norms(demo: ModelPackage) -> None:
    writer = LoraWriter()
    parameters = demo.manifest.roles["denoiser"].parameters
    expected = {}
    for path, weight, bias in (
        (OUT, ".diff", ".diff_b"),
        (CONV, ".diff", ".diff_b"),
        (NORM, ".w_norm", ".b_norm"),
    ):
        for ending, name in ((weight, f"{path}.weight"), (bias, f"{path}.bias")):
            expected[name] = writer.add(path, ending, *parameters[name].shape)
    pack = added(demo, writer)
    assert {target.parameter for target in pack.record.targets} == expected.keys()
    factors = pack.factors()
    for target in pack.record.targets:
        base = np.ones(target.shape, np.float32)
        diff = {"diff": factors[target.tensor_name("diff")].fp32()}
        found = laid(target, diff, base, base, -0.5)
        np.testing.assert_allclose(found, 1 - 0.5 * expected[target.parameter].numpy(), rtol=1e-6)


def test_a_bias_that_peft_trained_has_the_layers_scale(demo: ModelPackage) -> None:
    writer = LoraWriter(DIFFUSERS)
    writer.lora(OUT, (64, 64), 4, 8.0)
    writer.add(OUT, ".lora_B.bias", 64)
    scales = {each.parameter: each.scale for each in added(demo, writer).record.targets}
    assert scales == {f"{OUT}.weight": 2.0, f"{OUT}.bias": 2.0}


def test_engines_for_a_gpu_take_no_biases(demo: ModelPackage) -> None:
    writer = LoraWriter()
    writer.add(OUT, ".diff_b", 64)
    loras = ((added(demo, writer), 1.0),)
    EffectiveWeights(demo, 0).open(loras)
    with pytest.raises(PackageError, match=rf"file changes denoiser {OUT}\.bias, and engines for"):
        EffectiveWeights(demo, 0, factored=True).open(loras)


def test_a_pack_that_does_not_say_its_axis_is_of_an_older_version(demo: ModelPackage) -> None:
    writer = LoraWriter()
    writer.lora(LINEAR, (64, 64), 4, None)
    writer.add(LINEAR, ".dora_scale", 64, 1)
    pack = added(demo, writer)
    targets = tuple(replace(each, decomposition=None) for each in pack.record.targets)
    write_pack(pack.path, replace(pack.record, targets=targets))
    with pytest.raises(
        PackageError, match=r"an older version, .* remove the pack and add it again"
    ):
        read_pack(pack.path)
