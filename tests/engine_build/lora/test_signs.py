"""A file that is not taken is told by its method, then by the model that it is for."""

import pytest

from engine_build.lora.signs import described, refused

SDXL = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q"
PEFT = "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("name", "shape", "method"),
    [
        (f"{SDXL}.oft_blocks", (4, 16, 16), "OFT"),
        ("oft_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.oft_blocks", (4, 8, 8), "OFT"),
        (f"{SDXL}.oft_diag", (4, 16, 16), "OFT"),
        (f"{PEFT}.oft_R.weight", (4, 120), "OFT"),
        (f"{SDXL}.oft_blocks", (2, 4, 16, 16), "BOFT"),
        (f"{PEFT}.boft_R", (2, 4, 16, 16), "BOFT"),
        (f"{SDXL}.on_input", (), "IA3"),
        (f"{PEFT}.ia3_l", (64, 1), "IA3"),
        (f"{SDXL}.a1.weight", (4, 64), "GLoRA"),
        (f"{SDXL}.bm.weight", (4, 64), "GLoRA"),
        (f"{PEFT}.vera_lambda_b", (64,), "VeRA"),
        (f"{SDXL}.lambda_layer", (1, 4), "T-LoRA"),
        (f"{PEFT}.hra_u", (64, 4), "HRA"),
        (f"{PEFT}.vblora_logits_A", (4, 64, 2), "VB-LoRA"),
        (f"{PEFT}.fourierft_spectrum", (100,), "FourierFT"),
        (f"{PEFT}.miss_block", (4, 64), "MiSS"),
        (f"{PEFT}.lora_embedding_A", (4, 64), "embedding LoRA"),
        (f"{SDXL}.set_weight", (64, 64), "whole weights"),
        (f"{SDXL}.reshape_weight", (2,), "whole weights"),
    ],
)
def test_methods_that_are_refused(name: str, shape: tuple[int, ...], method: str) -> None:
    shapes = {name: shape}
    reason = refused(shapes)
    assert reason is not None
    assert name in reason
    assert described(shapes, {}).startswith(f"a file of {method}")


@pytest.mark.parametrize(
    ("endings", "method"),
    [
        ((".lora_down.weight", ".lora_up.weight", ".alpha"), "a LoRA for SDXL"),
        ((".lora_A.weight", ".lora_B.weight"), "a LoRA for SDXL"),
        ((".lora_down.weight", ".lora_up.weight", ".dora_scale"), "a DoRA for SDXL"),
        ((".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"), "a LoHa for SDXL"),
        ((".lokr_w1", ".lokr_w2", ".dora_scale"), "a LoKr with DoRA for SDXL"),
        ((".diff",), "a difference of weights (full) for SDXL"),
        ((".w_norm", ".b_norm"), "a difference of weights (full) for SDXL"),
    ],
)
def test_methods_that_are_taken(endings: tuple[str, ...], method: str) -> None:
    shapes = {SDXL + ending: (4, 4) for ending in endings}
    assert refused(shapes) is None
    assert described(shapes, {}) == method


@pytest.mark.parametrize(
    ("module", "width", "model"),
    [
        (
            "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.to_q",
            320,
            "AnimateDiff, a video model",
        ),
        ("base_model.model.model.layers.0.self_attn.q_proj", 4096, "a language model"),
        ("lora_unet_double_blocks_0_img_attn_qkv", 3072, "Flux or Chroma"),
        ("transformer.single_transformer_blocks.0.attn.to_q", 3072, "Flux or Chroma"),
        ("lycoris_single_transformer_blocks_0_attn_to_q", 3072, "Flux or Chroma"),
        ("diffusion_model.distilled_guidance_layer.layers.0.in_layer", 64, "Chroma"),
        ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 64, "Flux 2"),
        ("transformer_blocks.0.attn.add_k_proj", 1536, "Stable Diffusion 3, Flux or Qwen-Image"),
        ("diffusion_model.joint_blocks.0.x_block.attn.qkv", 1536, "Stable Diffusion 3"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q", 4096, "Stable Diffusion 3"),
        ("transformer.transformer_blocks.0.img_mlp.net.2", 3072, "Qwen-Image"),
        ("transformer.transformer_blocks.59.attn.to_q", 3072, "Qwen-Image"),
        ("diffusion_model.layers.0.attention.to_q", 3840, "Z-Image or Lumina"),
        ("diffusion_model.blocks.0.self_attn.q", 5120, "Wan, a video model"),
        ("diffusion_model.double_blocks.0.img_mlp.fc1", 3072, "HunyuanVideo"),
        ("lora_prior_unet_down_blocks_0_0", 64, "Stable Cascade"),
        ("lora_te_text_model_encoder_layers_11_self_attn_q_proj", 768, "Stable Diffusion 1 or 2"),
        (f"lora_unet_{PEFT[17:].replace('.', '_')}", 64, "a UNet of Stable Diffusion's kind"),
        (PEFT.replace("attn1.to_q", "attn2.to_k"), 768, "Stable Diffusion 1"),
        (PEFT.replace("attn1.to_q", "attn2.to_k"), 1024, "Stable Diffusion 2"),
        (PEFT.replace("attn1.to_q", "attn2.to_k"), 2048, "SDXL"),
        ("lora_te2_text_model_encoder_layers_31_mlp_fc1", 1280, "SDXL"),
    ],
)
@pytest.mark.parametrize("pair", [(".lora_A.weight", ".lora_B.weight")])
def test_models(module: str, width: int, model: str, pair: tuple[str, str]) -> None:
    down, up = pair
    shapes = {module + down: (4, width), module + up: (64, 4)}
    assert described(shapes, {}) == f"a LoRA for {model}"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("clip_g", "clip_l"), "a textual inversion embedding"),
        (("emb_params",), "a textual inversion embedding"),
        (("control_model.input_blocks.0.0.weight",), "a ControlNet"),
        (("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "an IP-Adapter"),
        (("decoder.up_blocks.0.x.weight", "decoder.conv_in.weight"), "a VAE"),
        (("encoder.down.0.block.0.conv1.weight", "quant_conv.weight"), "a VAE"),
        (("first_stage_model.decoder.conv_out.bias",), "a VAE"),
        (("encoder.conv1.weight", "conv2.weight"), "a VAE"),
        (("model.1.sub.0.RDB1.conv1.0.weight", "model.0.weight"), "an upscaler"),
        (("body.0.rdb1.conv1.weight", "conv_first.weight"), "an upscaler"),
        (("layers.0.residual_group.blocks.0.norm1.weight",), "an upscaler"),
        (("body.0.weight", "body.1.weight"), "an upscaler"),
        (("vision_model.embeddings.class_embedding",), "a CLIP encoder of pictures"),
        (("text_model.encoder.layers.0.mlp.fc1.weight",), "a text encoder"),
        (("encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"), "a text encoder"),
        (
            ("model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_in.weight"),
            "a checkpoint, whole weights",
        ),
        (("model.diffusion_model.out.2.weight",), "a checkpoint, whole weights"),
        (("conv_in.weight", "conv_in.bias"), "a checkpoint, whole weights"),
        (("some.thing",), "of a kind that is not known, such as some.thing"),
        ((), "empty"),
    ],
)
def test_files_without_factors(names: tuple[str, ...], kind: str) -> None:
    assert described(dict.fromkeys(names, (4, 4)), {}) == kind


def test_a_file_with_factors_is_no_checkpoint() -> None:
    shapes = {"what.lora_A.weight": (4, 4), "model.diffusion_model.out.2.weight": (4, 4)}
    told = described(shapes, {})
    assert told == (
        "a LoRA, for a model that its names, such as model.diffusion_model.out.2.weight, "
        "do not tell"
    )
