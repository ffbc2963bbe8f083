"""Tiny random SDXL pipelines of the real architecture, and small CLIP tokenizers, for every test.

Networks and vocabularies are small; the blocks, the names of the parameters, the two text encoders
and the files on disk are SDXL's own. The weights are random at a scale at which text, time
and sizes all change what the UNet answers.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from benchmarks.tiny.byte_pairs import learn_merges

CORPUS = (
    "a photo of a red apple on a wooden table, soft light",
    "two small cats sleeping under a blue blanket in the morning",
    "an oil painting of a mountain lake at sunset, highly detailed, masterpiece",
    "portrait of a smiling woman with long hair, studio lighting, best quality",
    "a green bicycle leaning against a brick wall, rain, reflections",
    "low quality, blurry, watermark, extra fingers, bad anatomy",
)

MERGES = 500
"""More than the corpus has: its words are whole tokens."""

TEXT_WIDTHS = (32, 40)
PROJECTION = 24

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options of a tiny source."""

    prediction_type: str = "epsilon"
    dtype: torch.dtype = torch.float32
    variant: str | None = None
    max_shard_size: str = "10GB"
    preview_decoder: bool = True
    zero_terminal_snr: bool = False
    timestep_spacing: str = "leading"
    shallow: bool = False
    """Two levels and one layer a block in the UNet: built in a third of the time."""
    channels: tuple[int, ...] = (16, 32, 32)
    """Of the UNet's levels; a shallow one has the first two."""
    head_width: int = 16
    """The width of a head of the UNet's attentions."""
    seed: int = 0


def save_source(directory: Path, options: SourceOptions | None = None) -> Path:
    """Write a tiny SDXL pipeline as a diffusers folder, as `save_pretrained` does."""
    options = options or SourceOptions()
    pipeline = sdxl_pipeline(options)
    pipeline.to(options.dtype)
    pipeline.save_pretrained(
        directory,
        safe_serialization=True,
        variant=options.variant,
        max_shard_size=options.max_shard_size,
    )
    if options.preview_decoder:
        preview = preview_decoder(options.seed).to(options.dtype)
        preview.save_pretrained(directory / "preview_decoder", safe_serialization=True)
    return directory


def sdxl_pipeline(options: SourceOptions | None = None) -> StableDiffusionXLPipeline:
    """A tiny SDXL in fp32: pictures of 128x128 by default, a grid of 32 pixels."""
    options = options or SourceOptions()
    tokenizer = clip_tokenizer(pad_token="<|endoftext|>")
    tokenizer_2 = clip_tokenizer(pad_token="!")
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(options.seed),
        text_encoder=randomise(CLIPTextModel(clip_config(0, tokenizer)), options.seed + 1),
        text_encoder_2=randomise(
            CLIPTextModelWithProjection(clip_config(1, tokenizer_2)), options.seed + 2
        ),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=_unet(options),
        scheduler=_scheduler(options),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def unet(seed: int = 0) -> UNet2DConditionModel:
    """SDXL's UNet with its three levels and two layers a block, 3,800 times smaller."""
    return _unet(SourceOptions(seed=seed))


def shallow_unet(seed: int = 0) -> UNet2DConditionModel:
    """The same with two levels and one layer a block, for tests of what is around it."""
    return _unet(SourceOptions(shallow=True, seed=seed))


def _unet(options: SourceOptions) -> UNet2DConditionModel:
    levels, layers = (2, 1) if options.shallow else (3, 2)
    channels = options.channels[:levels]
    network = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (levels - 1)),
        up_block_types=(*["CrossAttnUpBlock2D"] * (levels - 1), "UpBlock2D"),
        # The number of heads, by its name in SDXL's own configuration.
        attention_head_dim=tuple(width // options.head_width for width in channels),
        transformer_layers_per_block=1,
        cross_attention_dim=sum(TEXT_WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + PROJECTION,
        norm_num_groups=8,
    )
    return randomise(network, options.seed + 3)


def autoencoder(seed: int = 0) -> AutoencoderKL:
    """SDXL's VAE: eight pixels to a latent, four channels."""
    network = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=128,
        scaling_factor=0.13025,
    )
    return randomise(network, seed + 4)


def preview_decoder(seed: int = 0) -> AutoencoderTiny:
    """A decoder of the TAESDXL kind."""
    network = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )
    return randomise(network, seed + 5)


def clip_tokenizer(pad_token: str, max_length: int = 77) -> CLIPTokenizer:
    """A byte-level BPE laid out as CLIP's: bytes first ("!" is 0), the two special tokens last."""
    alphabet = _byte_alphabet()
    texts = [word for sentence in CORPUS for word in sentence.lower().split()]
    merges = learn_merges([(*word[:-1], f"{word[-1]}</w>") for word in texts], MERGES)
    words = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    words += list(dict.fromkeys("".join(pair) for pair in merges if "".join(pair) not in words))
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=merges,
        pad_token=pad_token,
        model_max_length=max_length,
    )


def _byte_alphabet() -> list[str]:
    """CLIP's order of the 256 byte letters: the printable ones as they are, then the others."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def clip_config(which: int, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Of SDXL's first or second text encoder; the first is Flux's too."""
    # SDXL's own files say eos_token_id 2; transformers then takes the highest id for the end.
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTHS[which],
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=(4, 5)[which],
        hidden_act=("quick_gelu", "gelu")[which],
        projection_dim=PROJECTION,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )


def _scheduler(options: SourceOptions) -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing=options.timestep_spacing,
        prediction_type=options.prediction_type,
        rescale_betas_zero_snr=options.zero_terminal_snr,
    )


def randomise(network: NetworkT, seed: int) -> NetworkT:
    """Random weights of unit gain: PyTorch's own are smaller, and text then changes nothing.

    Much larger ones make attention so sharp that a rounding error grows a hundredfold.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim < 2:
                # PyTorch draws a layer's biases, and sets the weights of norms to 1.
                mean = 0.0 if name.endswith("bias") else 1.0
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(mean + 0.1 * noise)
                continue
            fan_in = 1 if "embedding.weight" in name else math.prod(parameter.shape[1:])
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise / math.sqrt(fan_in))
    return network.eval().requires_grad_(False)
