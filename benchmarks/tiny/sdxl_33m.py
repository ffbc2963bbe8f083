"""An SDXL of 33 million parameters with random weights: large enough that arithmetic decides.

Its UNet has SDXL's three levels at 0.3 of their published width; the VAE has half of SDXL's
channels less than published, so that decoding 512x512 pixels takes about as long as a step.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from benchmarks.tiny.models import SourceOptions, preview_decoder, randomise, sdxl_pipeline

CHANNELS = (96, 192, 272)
HEAD_WIDTH = 16


def save_sdxl_33m(directory: Path) -> Path:
    """Write the model as a diffusers folder in fp16, with a preview decoder."""
    pipeline = sdxl_pipeline(SourceOptions(channels=CHANNELS, head_width=HEAD_WIDTH))
    pipeline.vae = _autoencoder()
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(directory, safe_serialization=True)
    preview = preview_decoder().to(torch.float16)
    preview.save_pretrained(directory / "preview_decoder", safe_serialization=True)
    return directory


def _autoencoder() -> AutoencoderKL:
    network = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=512,
        scaling_factor=0.13025,
    )
    return randomise(network, 4)
