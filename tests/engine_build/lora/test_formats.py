"""Every format and formula: what a pack does to a weight, against the formula in fp64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine_build.lora.packs import LoraRequest, add_pack
from runtime.draw.lora.deltas import laid
from runtime.package.manifest import ModelPackage
from runtime.package.pack import LoraPack
from tests.tiny.lora_files import (
    DIFFUSERS,
    KOHYA,
    PEFT,
    LoraWriter,
    Spelling,
    plain_layers,
)

LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
SAMPLER = "down_blocks.0.downsamplers.0.conv"

# Diffusers' path to Stability's, as ComfyUI and diffusers tell of the released SDXL: three levels,
# two layers each.
SGM = {
    "conv_in": "input_blocks_0_0",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
    "down_blocks.0.resnets.1.conv1": "input_blocks_2_0_in_layers_2",
    "down_blocks.0.resnets.0.time_emb_proj": "input_blocks_1_0_emb_layers_1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_4_0_skip_connection",
    "down_blocks.1.attentions.0.proj_in": "input_blocks_4_1_proj_in",
    "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k": (
        "input_blocks_8_1_transformer_blocks_0_attn2_to_k"
    ),
    "mid_block.resnets.0.conv2": "middle_block_0_out_layers_3",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj": (
        "middle_block_1_transformer_blocks_0_ff_net_0_proj"
    ),
    "mid_block.resnets.1.conv1": "middle_block_2_in_layers_2",
    "up_blocks.0.attentions.2.transformer_blocks.0.attn1.to_out.0": (
        "output_blocks_2_1_transformer_blocks_0_attn1_to_out_0"
    ),
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
    "up_blocks.2.resnets.2.conv1": "output_blocks_8_0_in_layers_2",
    "conv_out": "out_2",
}


def shape_of(package: ModelPackage, path: str, role: str = "denoiser") -> tuple[int, ...]:
    return package.manifest.roles[role].parameters[f"{path}.weight"].shape


def changes(
    pack: LoraPack, base: np.ndarray | None = None, role: str = "denoiser"
) -> dict[str, np.ndarray]:
    """A pack's change at weight 1 of each parameter of a role, named without `.weight`."""
    factors = pack.factors()
    found = {}
    for target in pack.record.targets:
        if target.role == role:
            read = {name: factors[target.tensor_name(name)].fp32() for name in target.factors}
            of = np.zeros(target.shape, np.float32) if base is None else base
            laid_on = laid(target, read, of, of, 1.0)
            found[target.parameter.removesuffix(".weight")] = laid_on - of
    return found


def added(package: ModelPackage, writer: LoraWriter, metadata: dict[str, str] | None = None):
    path = writer.save(package.path / "file.safetensors", metadata)
    return add_pack(package, LoraRequest(path, "file"))


def assert_changes(found: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for path, wanted in expected.items():
        assert found[path].shape == tuple(wanted.shape)
        np.testing.assert_allclose(found[path], wanted.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "spelling",
    [
        KOHYA,
        DIFFUSERS,
        PEFT,
        Spelling("unet.", flat=False, down=".lora.down.weight", up=".lora.up.weight"),
    ],
    ids=["kohya", "diffusers", "peft", "old diffusers"],
)
def test_every_spelling_in_every_dtype(
    demo: ModelPackage, spelling: Spelling, dtype: torch.dtype
) -> None:
    writer = LoraWriter(spelling, dtype)
    modules = {path: shape_of(demo, path) for path in (LINEAR, OUT, CONV, SAMPLER)}
    for path, shape, rank in plain_layers(modules):
        writer.lora(path, shape, rank, alpha=None)
    pack = added(demo, writer)
    assert_changes(changes(pack), writer.changes)
    assert pack.record.not_covered == ()


def test_the_processors_of_old_diffusers(demo: ModelPackage) -> None:
    spelling = Spelling("unet.", flat=False, down="_lora.down.weight", up="_lora.up.weight")
    writer = LoraWriter(spelling)
    for path in (LINEAR, OUT):
        name = path.removesuffix(".0").replace(".to_", ".processor.to_")
        writer.lora(path, shape_of(demo, path), 2, None, name)
    assert_changes(changes(added(demo, writer)), writer.changes)


def test_the_naming_of_stability(demo: ModelPackage) -> None:
    writer = LoraWriter()
    for path, name in SGM.items():
        writer.lora(path, shape_of(demo, path), 2, 1.0, name)
    assert_changes(changes(added(demo, writer)), writer.changes)


def test_text_encoders_in_both_namings(demo: ModelPackage) -> None:
    path = "text_model.encoder.layers.1.self_attn.q_proj"
    for prefix, name in (
        ("lora_te1_", "lora_te2_"),
        ("text_encoder.", "text_encoder_2."),
    ):
        writer = LoraWriter()
        expected = {}
        for role, each in zip(("text_encoder", "text_encoder_2"), (prefix, name), strict=True):
            writer.spelling = Spelling(each, flat=each.startswith("lora"))
            writer.lora(path, shape_of(demo, path, role), 2, 4.0)
            expected[role] = writer.changes[path]
        file = writer.save(demo.path / "text.safetensors")
        pack = add_pack(demo, LoraRequest(file, "file", id=prefix.strip("_.")))
        assert pack.record.roles == {"text_encoder", "text_encoder_2"}
        for role, change in expected.items():
            assert_changes(changes(pack, role=role), {path: change})


def test_alpha_scales_by_each_layers_rank(demo: ModelPackage) -> None:
    writer = LoraWriter()
    writer.lora(LINEAR, shape_of(demo, LINEAR), 4, 2.0)
    writer.lora(OUT, shape_of(demo, OUT), 2, 8.0)
    writer.lora(CONV, shape_of(demo, CONV), 3, None)
    assert_changes(changes(added(demo, writer)), writer.changes)


def test_alpha_of_the_metadata_that_diffusers_writes(demo: ModelPackage) -> None:
    writer = LoraWriter(DIFFUSERS)
    writer.lora(LINEAR, shape_of(demo, LINEAR), 4, None)
    writer.lora(OUT, shape_of(demo, OUT), 4, None)
    config = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_out.0": 2}}
    pack = added(demo, writer, {"lora_adapter_metadata": json.dumps(config)})
    expected = {LINEAR: 2 * writer.changes[LINEAR], OUT: 0.5 * writer.changes[OUT]}
    assert_changes(changes(pack), expected)


def test_alpha_of_the_configuration_beside_a_peft_file(demo: ModelPackage, tmp_path: Path) -> None:
    writer = LoraWriter(PEFT)
    writer.lora(LINEAR, shape_of(demo, LINEAR), 4, None)
    path = writer.save(tmp_path / "adapter_model.safetensors")
    config = {"r": 4, "lora_alpha": 6, "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    pack = add_pack(demo, LoraRequest(path, "adapter"))
    assert_changes(changes(pack), {LINEAR: 3 * writer.changes[LINEAR]})


def test_a_convolution_with_a_core(demo: ModelPackage) -> None:
    writer = LoraWriter()
    out, inputs, *kernel = shape_of(demo, CONV)
    mid = writer.add(CONV, ".lora_mid.weight", 3, 2, *kernel)
    down = writer.add(CONV, ".lora_down.weight", 2, inputs, 1, 1)
    up = writer.add(CONV, ".lora_up.weight", out, 3, 1, 1)
    # Two 1x1 convolutions around one that has the kernel.
    expected = torch.einsum("or,rskl,si->oikl", up[..., 0, 0], mid, down[..., 0, 0])
    assert_changes(changes(added(demo, writer)), {CONV: expected * 1.0})


@pytest.mark.parametrize("path", [LINEAR, CONV])
def test_dora_as_peft_applies_it(demo: ModelPackage, path: str) -> None:
    writer = LoraWriter()
    shape = shape_of(demo, path)
    writer.lora(path, shape, 2, 4.0)
    magnitude = writer.add(path, ".dora_scale", shape[0], *[1] * (len(shape) - 1))
    base = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    together = base.double() + writer.changes[path]
    norms = torch.linalg.norm(together.reshape(shape[0], -1), dim=1)
    rows = (shape[0], *[1] * (len(shape) - 1))
    expected = magnitude.reshape(rows) * together / norms.reshape(rows) - base.double()
    assert_changes(changes(added(demo, writer), base.numpy()), {path: expected})


@pytest.mark.parametrize("path", [LINEAR, CONV])
def test_loha(demo: ModelPackage, path: str) -> None:
    writer = LoraWriter()
    out, *inputs = shape_of(demo, path)
    width = int(np.prod(inputs))
    halves = [
        writer.add(path, f".hada_w{half}_a", out, 2)
        @ writer.add(path, f".hada_w{half}_b", 2, width)
        for half in (1, 2)
    ]
    writer.tensors[KOHYA.module(path) + ".alpha"] = torch.tensor(1.0)
    expected = 0.5 * (halves[0] * halves[1]).reshape(out, *inputs)
    assert_changes(changes(added(demo, writer)), {path: expected})


def test_loha_with_a_core(demo: ModelPackage) -> None:
    writer = LoraWriter()
    out, inputs, *kernel = shape_of(demo, CONV)
    halves = []
    for half in (1, 2):
        core = writer.add(CONV, f".hada_t{half}", 2, 2, *kernel)
        a = writer.add(CONV, f".hada_w{half}_a", 2, out)
        b = writer.add(CONV, f".hada_w{half}_b", 2, inputs)
        halves.append(torch.einsum("ijkl,jr,ip->prkl", core, b, a))
    assert_changes(changes(added(demo, writer)), {CONV: halves[0] * halves[1]})


@pytest.mark.parametrize("whole", [(True, True), (True, False), (False, True), (False, False)])
def test_lokr(demo: ModelPackage, whole: tuple[bool, bool]) -> None:
    writer = LoraWriter()
    out, inputs = shape_of(demo, LINEAR)
    small, large = (4, 2), (out // 4, inputs // 2)
    factors = [
        writer.add(LINEAR, f".lokr_w{index}", *shape)
        if is_whole
        else writer.add(LINEAR, f".lokr_w{index}_a", shape[0], 2)
        @ writer.add(LINEAR, f".lokr_w{index}_b", 2, shape[1])
        for index, shape, is_whole in zip((1, 2), (small, large), whole, strict=True)
    ]
    writer.tensors[KOHYA.module(LINEAR) + ".alpha"] = torch.tensor(6.0)
    # LyCORIS scales by alpha / rank, and not at all where neither factor has a rank.
    scale = 1.0 if all(whole) else 3.0
    assert_changes(changes(added(demo, writer)), {LINEAR: scale * torch.kron(*factors)})


@pytest.mark.parametrize("form", ["whole", "flat", "core"])
def test_lokr_of_a_convolution(demo: ModelPackage, form: str) -> None:
    writer = LoraWriter()
    out, inputs, *kernel = shape_of(demo, CONV)
    small = writer.add(CONV, ".lokr_w1", 4, 2)
    large = (out // 4, inputs // 2)
    if form == "whole":
        kernels = writer.add(CONV, ".lokr_w2", *large, *kernel)
    elif form == "flat":
        a = writer.add(CONV, ".lokr_w2_a", large[0], 2)
        b = writer.add(CONV, ".lokr_w2_b", 2, large[1] * int(np.prod(kernel)))
        kernels = (a @ b).reshape(*large, *kernel)
    else:
        core = writer.add(CONV, ".lokr_t2", 2, 2, *kernel)
        a, b = (
            writer.add(CONV, ".lokr_w2_a", 2, large[0]),
            writer.add(CONV, ".lokr_w2_b", 2, large[1]),
        )
        kernels = torch.einsum("ijkl,ip,jr->prkl", core, a, b).contiguous()
    expected = torch.kron(small[..., None, None], kernels)
    assert_changes(changes(added(demo, writer)), {CONV: expected})
