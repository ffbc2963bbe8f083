"""Files that are no checkpoint of ours, and what they are instead."""

from engine_build.checkpoint.single_file.signs import (
    Sign,
    begins,
    both,
    ends,
    has,
    only,
    reads,
    reads_other_than,
    without,
)

_FACTORS = (
    ".lora_up.",
    ".lora_down.",
    ".lora.up.",
    ".lora.down.",
    "_lora.up.",
    "_lora.down.",
    ".lora_linear_layer.",
    ".lora_A.",
    ".lora_B.",
    ".hada_w",
    ".lokr_w",
    ".oft_",
    ".dora_scale",
)
_UNET = begins("input_blocks.", "down_blocks.")
_WITH_LABELS = begins("label_emb.", "add_embedding.")
_CROSS_ATTENTION = "attn2.to_k.weight"
_ENCODERS = ("conditioner.embedders.", "cond_stage_model.", "text_encoders.")
_DENOISER = begins("input_blocks.", "down_blocks.", "double_blocks.", "cap_pad_token")

NOT_SERVED: tuple[tuple[str, Sign], ...] = (
    ("a LoRA, which is laid over a model and not built", has(*_FACTORS)),
    (
        "a difference of weights, which is laid over a model as a LoRA is and not built",
        ends(".diff", ".diff_b", ".on_input", ".w_norm"),
    ),
    ("a ControlNet, which is not served", has("control_model.", "controlnet_", "input_hint_")),
    ("an IP-Adapter, which is not served", has("ip_adapter.", "image_proj.", "image_proj_model.")),
    ("a motion module (AnimateDiff), which is not served", has("motion_modules.")),
    ("an encoder of pictures, which is not served", only("vision_model.", "visual_projection.")),
    ("an upscaler, which is not served", has("conv_first.", "upconv1.", "RRDB_trunk.")),
    ("a textual inversion, which is not built", only("clip_l", "clip_g", "emb_params")),
    (
        "a text encoder alone",
        only("text_model.", "text_projection", "logit_scale"),
    ),
    (
        "a T5 text encoder alone",
        only("encoder.block.", "encoder.embed_tokens.", "encoder.final_layer_norm.", "shared."),
    ),
    (
        "a language model alone, such as the text encoder of Z-Image",
        only("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head."),
    ),
    (
        "a VAE alone",
        only(
            "first_stage_model.",
            "vae.",
            "encoder.",
            "decoder.",
            "quant_conv.",
            "post_quant_conv.",
        ),
    ),
    ("Stable Diffusion 3, which is not served", begins("joint_blocks.")),
    ("Flux 2, which is not served", begins("double_stream_modulation_img.")),
    ("Flux Redux, which is not served", begins("redux_up.", "redux_down.")),
    ("Ovis-Image, which is not served", has("img_mlp.gate_proj.")),
    (
        "LongCat-Image, which is not served",
        both(begins("double_blocks."), reads("txt_in.weight", 3584)),
    ),
    ("AuraFlow, which is not served", begins("double_layers.")),
    (
        "HunyuanVideo or HunyuanImage, which are not served",
        has("txt_in.individual_token_refiner.", "context_embedder.token_refiner."),
    ),
    ("Qwen-Image, which is not served", both(begins("transformer_blocks."), begins("txt_norm."))),
    ("a video model (Wan), which is not served", begins("head.modulation", "patch_embedding.")),
    ("a video model (LTX), which is not served", begins("patchify_proj.")),
    ("HiDream, which is not served", begins("double_stream_blocks.")),
    ("Cosmos or Anima, which are not served", begins("x_embedder.proj.1.", "llm_adapter.")),
    ("PixArt, which is not served", begins("t_block.1.", "adaln_single.")),
    ("Hunyuan-DiT, which is not served", begins("mlp_t5.")),
    ("Stable Cascade, which is not served", begins("clip_txt_mapper.", "clip_mapper.")),
    ("Kolors, which is not served", begins("encoder_hid_proj.")),
    ("Chroma Radiance, which is not served", begins("nerf_")),
    (
        "Lumina 2, which is not served",
        both(begins("cap_embedder."), without(has("cap_pad_token"))),
    ),
    ("Playground 2.5, whose EDM sampling is not served", begins("edm_mean")),
    ("a model of EDM's v-prediction such as CosXL, which is not served", begins("edm_vpred.")),
    (
        "a latent consistency model that reads its guidance, which is not served",
        begins("time_embedding.cond_proj."),
    ),
    ("SDXL's refiner, which is not served", has("conditioner.embedders.0.model.")),
    (
        "SDXL's refiner, which is not served",
        both(_UNET, _WITH_LABELS, reads(_CROSS_ATTENTION, 1280)),
    ),
    ("Stable Diffusion 1, which is not served", has("cond_stage_model.transformer.")),
    ("Stable Diffusion 2, which is not served", has("cond_stage_model.model.")),
    (
        "Stable Diffusion 1, which is not served",
        both(_UNET, reads(_CROSS_ATTENTION, 768)),
    ),
    (
        "Stable Diffusion 2, which is not served",
        both(_UNET, reads(_CROSS_ATTENTION, 1024)),
    ),
    (
        "a model of inpainting or editing, which is not served",
        both(_UNET, reads_other_than("input_blocks.0.0.weight", 4)),
    ),
    (
        "a model of inpainting or editing, which is not served",
        both(begins("down_blocks."), reads_other_than("conv_in.weight", 4)),
    ),
    (
        "a Flux of the kind that reads a picture (Fill, Canny, Depth), which is not served",
        both(begins("double_blocks."), reads_other_than("img_in.weight", 64)),
    ),
    (
        "a Flux of the kind that reads a picture (Fill, Canny, Depth), which is not served",
        both(begins("single_transformer_blocks."), reads_other_than("x_embedder.weight", 64)),
    ),
    ("a UNet of another model than SDXL", both(_UNET, without(_WITH_LABELS))),
    ("a moving average of weights (EMA) alone", both(has("model_ema."), without(_DENOISER))),
    (
        "text encoders or a VAE without the denoiser (UNet or transformer)",
        both(has(*_ENCODERS), without(_DENOISER)),
    ),
)
"""The first that applies: what holds for several is asked last."""

DIFFUSERS_NETWORK: tuple[str, Sign] = (
    "one network of a diffusers folder; give the whole folder",
    begins("down_blocks.", "transformer_blocks.", "single_transformer_blocks."),
)
"""Asked where no family of ours is found."""
