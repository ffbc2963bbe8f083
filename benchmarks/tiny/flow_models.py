"""Tiny random FLUX.1 and Chroma pipelines of the real architecture, with a small T5 tokenizer.

As in `benchmarks.tiny.models`: networks and vocabularies are small, and the blocks, the names of
the parameters and the files on disk are the models' own.
"""

from pathlib import Path

from diffusers import (
    AutoencoderKL,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

from benchmarks.tiny.models import (
    CORPUS,
    TEXT_WIDTHS,
    autoencoder,
    clip_config,
    clip_tokenizer,
    randomise,
)

CHANNELS = 16
T5_WIDTH = 24
T5_TOKENS = 64


def save_flow_source(directory: Path, pipeline: DiffusionPipeline) -> Path:
    """Write a pipeline as a diffusers folder."""
    pipeline.save_pretrained(directory, safe_serialization=True)
    return directory


def flux_dev_pipeline() -> FluxPipeline:
    """Told its guidance; shifted by the picture's size."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return flux_pipeline(scheduler, T5_TOKENS, guidance_embeds=True)


def flux_schnell_pipeline() -> FluxPipeline:
    """No guidance, no shift; a tokenizer that allows more than schnell reads."""
    return flux_pipeline(FlowMatchEulerDiscreteScheduler(), 512, guidance_embeds=False)


def flux_pipeline(
    scheduler: FlowMatchEulerDiscreteScheduler, tokens: int, *, guidance_embeds: bool
) -> FluxPipeline:
    """A tiny FLUX.1 in fp32 with a grid of 16 pixels."""
    tokenizer, tokenizer_2 = clip_tokenizer(pad_token="<|endoftext|>"), t5_tokenizer(tokens)
    transformer = FluxTransformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=TEXT_WIDTHS[0],
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )
    pipeline = FluxPipeline(
        scheduler=scheduler,
        vae=flow_autoencoder(),
        text_encoder=randomise(CLIPTextModel(clip_config(0, tokenizer)), 1),
        tokenizer=tokenizer,
        text_encoder_2=t5_encoder(tokenizer_2),
        tokenizer_2=tokenizer_2,
        transformer=randomise(transformer, 3),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def chroma_pipeline() -> ChromaPipeline:
    """A tiny Chroma in fp32 with a grid of 16 pixels."""
    tokenizer = t5_tokenizer(T5_TOKENS)
    transformer = ChromaTransformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=16,
        approximator_hidden_dim=32,
        approximator_layers=2,
    )
    pipeline = ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flow_autoencoder(),
        text_encoder=t5_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=randomise(transformer, 4),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flow_autoencoder() -> AutoencoderKL:
    """SDXL's VAE with sixteen channels, a shift, and no convolutions about the latents."""
    # Among its private entries are the names that keep their defaults, whatever we say.
    public = {key: value for key, value in autoencoder().config.items() if key[0] != "_"}
    changes = {
        "latent_channels": CHANNELS,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    return randomise(AutoencoderKL.from_config({**public, **changes}), 5)


def t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """Two layers of T5 1.1."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=T5_WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
    )
    return randomise(T5EncoderModel(config), 6)


def t5_tokenizer(max_length: int) -> T5Tokenizer:
    """A unigram model laid out as T5's: pad, end and unknown first, words behind their space."""
    words = sorted({f"▁{word}" for text in CORPUS for word in text.split()})
    letters = sorted({letter for word in words for letter in word})
    scores = dict.fromkeys(["<pad>", "</s>", "<unk>", *letters, *words], -4.0)
    return T5Tokenizer(vocab=list(scores.items()), extra_ids=0, model_max_length=max_length)
