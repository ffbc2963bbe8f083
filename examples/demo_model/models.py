"""The networks of the demo model, and nothing about their training."""

from dataclasses import dataclass

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from examples.demo_model.tokenizer import VOCABULARY_SIZE

LATENT_CHANNELS = 4
TIME_ID_COUNT = 6


@dataclass(frozen=True)
class Widths:
    """Channels of the UNet's levels, of both text encoders, and of each size that it is told."""

    unet: tuple[int, int, int]
    text: tuple[int, int]
    text_head: int
    time_id: int


DEMO = Widths(unet=(32, 64, 80), text=(48, 64), text_head=16, time_id=16)


@dataclass(frozen=True)
class Conditioning:
    """The UNet's conditioning: `hidden [B, 32, text]`, `pooled [B, text 2]`, `time_ids [B, 6]`."""

    hidden: Tensor
    pooled: Tensor
    time_ids: Tensor


class Denoiser(nn.Module):
    """The networks that are trained together on latents: both text encoders and the UNet."""

    def __init__(self, widths: Widths = DEMO) -> None:
        super().__init__()
        first, second = (_text_config(width, widths.text_head) for width in widths.text)
        self.text_encoder = CLIPTextModel(first)
        self.text_encoder_2 = CLIPTextModelWithProjection(second)
        self.unet = build_unet(widths)

    def encode_text(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, 32]` token ids to hidden states `[B, 32, D]` and pooled text `[B, P]`.

        Both encoders give their last but one hidden state, as in SDXL.
        """
        first = self.text_encoder(token_ids, output_hidden_states=True)
        second = self.text_encoder_2(token_ids, output_hidden_states=True)
        hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        return hidden, second.text_embeds

    def forward(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The predicted velocity `[B, 4, h, w]`."""
        added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
        output = self.unet(latents, timesteps, conditioning.hidden, added_cond_kwargs=added)
        velocity: Tensor = output.sample
        return velocity


def build_unet(widths: Widths = DEMO) -> UNet2DConditionModel:
    """SDXL's block layout with two layers a block, at small widths."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=widths.unet,
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=sum(widths.text),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=widths.time_id,
        projection_class_embeddings_input_dim=TIME_ID_COUNT * widths.time_id + widths.text[1],
        norm_num_groups=4,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def build_scheduler() -> EulerDiscreteScheduler:
    """SDXL's noise schedule, with velocity prediction."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="leading",
        steps_offset=1,
    )


def _text_config(width: int, head: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=3,
        num_attention_heads=width // head,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=width,
        bos_token_id=VOCABULARY_SIZE - 2,
        eos_token_id=VOCABULARY_SIZE - 1,
        pad_token_id=VOCABULARY_SIZE - 1,
    )


def build_vae() -> AutoencoderKL:
    """Pictures `[B, 3, H, W]` in -1..1 to latents `[B, 4, H / 8, W / 8]` and back.

    Every norm group keeps at least eight channels, since smaller groups lose flat colours.
    Attention in the middle is left out: a plain background and a few objects need no long-range
    agreement while they are decoded.
    """
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        mid_block_add_attention=False,
        sample_size=128,
    )


def build_preview_decoder() -> AutoencoderTiny:
    """Scaled latents `[B, 4, h, w]` to previews in -1..1 of half the picture's side.

    Fast: a step takes 10 ms, and has a preview. Only its decoder is trained; the encoder exists
    because the class has one, at the least size.
    """
    return AutoencoderTiny(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(2, 1, 0),
    )
