"""Z-Image's transformer, made traceable."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from runtime.plan.families.flow import PATCH
from runtime.plan.families.zimage import CAPTION_MULTIPLE

# The transformer fills a picture up to a multiple of so many tokens, too.
PICTURE_MULTIPLE = 32


# diffusers names the layers of a patch size by its side and its frames.
PATCH_KEY = f"{PATCH}-1"


class RotaryAttention:
    """`ZSingleStreamAttnProcessor` of diffusers without its complex numbers, which ONNX lacks."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: None,  # noqa: ARG002 - the caller passes it
        attention_mask: torch.Tensor | None,
        freqs_cis: torch.Tensor,
    ) -> torch.Tensor:
        """Hidden states `[R, N, D]`, rotations as `rotations` gives them, and a mask as `visible`
        gives it (None: every token is seen), to `[R, N, D]`."""
        query, key, value = (
            project(hidden_states).unflatten(-1, (attn.heads, -1))
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        query = _rotate(attn.norm_q(query), freqs_cis)
        key = _rotate(attn.norm_k(key), freqs_cis)
        attended = scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=attention_mask,
        )
        answer: torch.Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return answer


class ZImageDenoiser(nn.Module):
    """Z-Image's transformer over a batch of latents of one size and of captions in one extent.

    diffusers' own forward takes lists and cuts them apart in Python; the layers are the same. The
    model pads a caption to a multiple of 32 tokens and attends to that padding. The extent of a
    call may be longer: tokens behind a caption's own multiple are hidden, and the picture's place
    follows that multiple, so that no result depends on the extent.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        for block in (*network.noise_refiner, *network.context_refiner, *network.layers):
            block.attention.set_processor(RotaryAttention())
        embedder = network.rope_embedder
        tables = embedder.precompute_freqs_cis(
            embedder.axes_dims, embedder.axes_lens, embedder.theta
        )
        for axis, table in enumerate(tables):
            self.register_buffer(f"rotations_{axis}", torch.view_as_real(table), persistent=False)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        caption: torch.Tensor,
        caption_length: torch.Tensor,
    ) -> torch.Tensor:
        """One evaluation for each row.

        Args:
            latents: `[R, C, h, w]`.
            timestep: `[R]`, from 1000 at pure noise to 0.
            caption: `[R, S, T]`, hidden states of the text encoder; S a multiple of 32.
            caption_length: `[R]` int64, how many of the S are the caption's own.

        Returns:
            The velocity `[R, C, h, w]`, from picture to noise.
        """
        network = self.network
        time = network.t_embedder((1000 - timestep) / 1000 * network.t_scale)
        padded = _multiple(caption_length, CAPTION_MULTIPLE)
        text, text_rotations = self.embed_caption(caption, caption_length)
        picture, picture_rotations = self.embed_picture(latents, padded)
        for block in network.noise_refiner:
            picture = block(picture, None, picture_rotations, time)
        seen = visible(text, padded)
        for block in network.context_refiner:
            text = block(text, seen, text_rotations)
        tokens = torch.cat([picture, text], dim=1)
        rotations = torch.cat([picture_rotations, text_rotations], dim=1)
        seen = visible(tokens, picture.shape[1] + padded)
        for block in network.layers:
            tokens = block(tokens, seen, rotations, time)
        answer = network.all_final_layer[PATCH_KEY](tokens, c=time)
        return -_unpatch(answer, latents.shape)

    def embed_caption(
        self, caption: torch.Tensor, length: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `[R, S, D]` and their rotations; what only fills becomes the padding token."""
        tokens = self.network.cap_embedder(caption)
        index = torch.arange(caption.shape[1])
        fills = (index >= length[:, None])[:, :, None]
        tokens = torch.where(fills, self.network.cap_pad_token, tokens)
        place = torch.zeros_like(length)[:, None] + index + 1
        nowhere = torch.zeros_like(place)
        return tokens, self.rotations(place, nowhere, nowhere)

    def embed_picture(
        self, latents: torch.Tensor, caption_padded: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `[R, N, D]` of patches, in rows, filled up to a multiple of 32 with the padding
        token, and their rotations: a picture comes after its caption, of `caption_padded` `[R]`
        tokens."""
        patches = _patch(latents)
        columns = latents.shape[3] // PATCH
        count = patches.shape[1]
        extent = (count + PICTURE_MULTIPLE - 1) // PICTURE_MULTIPLE * PICTURE_MULTIPLE
        index = torch.arange(extent)
        # By index, not by a piece of padding put behind: its length could be 0, and a trace would
        # take it for never 0.
        patches = patches.index_select(1, index.clamp(max=count - 1))
        tokens = self.network.all_x_embedder[PATCH_KEY](patches)
        fills = index >= count
        tokens = torch.where(fills[:, None], self.network.x_pad_token, tokens)
        row = index // columns
        # No remainder: the exporter knows none by a size that is not fixed.
        column = index - row * columns
        first = caption_padded[:, None] + 1
        at_origin = torch.zeros_like(first)
        places = (first + torch.zeros_like(index), at_origin + row, at_origin + column)
        return tokens, self.rotations(*(place.masked_fill(fills, 0) for place in places))

    def rotations(self, *places: torch.Tensor) -> torch.Tensor:
        """Cosines and sines `[R, N, head / 2, 2]` of tokens at these places `[R, N]` along each
        axis."""
        looked_up = [self.get_buffer(f"rotations_{axis}")[at] for axis, at in enumerate(places)]
        return torch.cat(looked_up, dim=2)


def visible(tokens: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The mask `[R, 1, 1, N]` of tokens `[R, N, D]` of which the first `count` `[R]` are seen."""
    return (torch.arange(tokens.shape[1]) < count[:, None])[:, None, None, :]


def _multiple(count: torch.Tensor, of: int) -> torch.Tensor:
    """The least multiples of `of` that hold these counts."""
    return (count + of - 1) // of * of


def _rotate(states: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """Multiply neighbours, as one complex number, by their rotation; states `[R, N, heads, d]`."""
    real, imaginary = states.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotations[:, :, None].unbind(-1)
    turned = (real * cosine - imaginary * sine, real * sine + imaginary * cosine)
    return torch.stack(turned, dim=-1).flatten(3)


def _patch(latents: torch.Tensor) -> torch.Tensor:
    """`[R, C, h, w]` to `[R, h / 2 * w / 2, 4 * C]`, the channels innermost."""
    rows, columns = latents.shape[2] // PATCH, latents.shape[3] // PATCH
    split = latents.unflatten(3, (columns, PATCH)).unflatten(2, (rows, PATCH))
    ordered: torch.Tensor = split.permute(0, 2, 4, 3, 5, 1)
    return ordered.flatten(3).flatten(1, 2)


def _unpatch(patches: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The inverse, to latents of this shape; what fills behind the patches is left out."""
    rows, columns = shape[2] // PATCH, shape[3] // PATCH
    split = patches[:, : rows * columns].unflatten(2, (PATCH, PATCH, -1))
    split = split.unflatten(1, (rows, columns))
    ordered: torch.Tensor = split.permute(0, 5, 1, 3, 2, 4)
    return ordered.flatten(4).flatten(2, 3)
