"""Decoders of latents, made traceable: the VAE's, and small ones for previews."""

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import nn
from torch.nn import functional

from engine_build.checkpoint.sources import Component
from engine_build.package.export.latents import LatentScaling
from engine_build.package.export.networks import load_network, network_skeleton
from engine_build.package.export.role import Axis, GraphInput, ModelExport, RoleExport, Sizes
from runtime.draw.preview import LONGEST_SIDE
from runtime.errors import SourceError
from runtime.package.manifest import BATCH, HEIGHT, WIDTH


class PictureDecoder(nn.Module):
    """A latent decoder that ends in 8-bit pictures, rounded as diffusers rounds them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents `[B, C, h, w]` to pictures `[B, H, W, 3]` uint8."""
        picture: torch.Tensor = self.network.decode(self.unscale(latents), return_dict=False)[0]
        picture = (picture * 0.5 + 0.5).clamp(0, 1)
        return (picture * 255).round().permute(0, 2, 3, 1).to(torch.uint8)

    def unscale(self, latents: torch.Tensor) -> torch.Tensor:
        """From the denoiser's latents to the decoder's; the same for small preview decoders."""
        return latents


class VaeDecoder(PictureDecoder):
    """AutoencoderKL's decoder, on the denoiser's latents."""

    def __init__(self, network: nn.Module, scaling: LatentScaling) -> None:
        super().__init__(network)
        self.scaling = scaling

    def unscale(self, latents: torch.Tensor) -> torch.Tensor:
        """Undo the scaling."""
        return self.scaling.to_autoencoder(latents)


class PreviewDecoder(PictureDecoder):
    """AutoencoderTiny's decoder, whose last doublings of the size may be left out.

    The layers behind a doubling then see a quarter of the pixels. The convolution right behind is
    replaced by the mean of what it would make of the four equal pixels.

    A decoder that ends in a doubling and two convolutions, with no activation between the two, is
    computed on the smaller picture to its end.
    """

    def __init__(self, network: nn.Module, doublings: int) -> None:
        """No more than the network's first `doublings` are kept; the rest is left out, in place."""
        super().__init__(network)
        layers: nn.Sequential = self.network.decoder.layers
        found = [at for at, layer in enumerate(layers) if isinstance(layer, nn.Upsample)]
        for at in found[doublings:]:
            convolution = layers[at + 1]
            assert isinstance(convolution, nn.Conv2d)
            layers[at] = nn.Identity()
            layers[at + 1] = AveragedConvolution(convolution)
        if found[:doublings] and found[:doublings][-1] == len(layers) - 3:
            self.network.decoder.layers = FoldedEnd(*layers)


class AveragedConvolution(nn.Module):
    """A 3x3 convolution behind a doubling of nearest neighbours, and the mean of 2x2 pixels behind
    the convolution, as one 3x3 convolution of the smaller picture.

    Of two neighbours along an axis that one pixel became, the first sees the pixel before by its
    first weight, and the second sees the pixel behind by its last one.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Parameters keep their names, and are the checkpoint's own."""
        super().__init__()
        self.weight: torch.Tensor = convolution.weight
        self.bias = convolution.bias

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """From pictures `[B, C, h, w]` to pictures of the same size."""
        weight = self.weight
        for axis in (2, 3):
            first, middle, last = weight.unbind(axis)
            whole = first / 2 + middle + last / 2
            weight = torch.stack((first / 2, whole, last / 2), axis)
        return functional.conv2d(picture, weight, self.bias, padding=1)


class FoldedEnd(nn.Sequential):
    """Layers whose last three are a doubling of nearest neighbours and two 3x3 convolutions, the
    first without bias: these three as one convolution of the smaller picture to four times the
    channels, which become 2x2 pixels.

    Equal but for the pixels at the edge: beyond them the second convolution sees what the first
    would make of zeros and neighbours, where the layers have zeros.
    """

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """From pictures `[B, C, h, w]` as the first layer takes them."""
        *before, _doubling, first, second = self
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        assert second.bias is not None
        for layer in before:
            picture = layer(picture)
        weight = _behind_a_doubling(first.weight, second.weight)
        bias = second.bias.repeat_interleave(4)
        return functional.pixel_shuffle(functional.conv2d(picture, weight, bias, padding=1), 2)


def _behind_a_doubling(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Two 3x3 convolutions behind a doubling, as a 3x3 convolution that gives the 2x2 pixels of
    each pixel as channels, `[out * 4, in, 3, 3]`.

    Products of matrices alone: a compiler would take a convolution for one of pictures.
    """
    # Along an axis, for both pixels that one became: which neighbour each pair of weights sees.
    pairs = [before + behind - 2 for behind in range(3) for before in range(3)]
    sees = [[(pixel + at) // 2 + 1 for at in pairs] for pixel in range(2)]
    chosen = [[float(at == each) for at in row] for row in sees for each in range(3)]
    matrix = torch.tensor(chosen, dtype=first.dtype, device=first.device)
    products = torch.tensordot(second, first, dims=([1], [0])).permute(0, 3, 1, 4, 2, 5)
    weight = matrix @ products.flatten(4, 5).flatten(2, 3) @ matrix.T
    pixels: torch.Tensor = weight.unflatten(3, (2, 3)).unflatten(2, (2, 3))
    return pixels.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def doublings_of_previews(scale_factor: int, longest: int) -> int:
    """The number of doublings from latents to previews, of pictures with a longest side of so many
    pixels, whose latents are smaller by `scale_factor`.

    A preview shows what becomes of a picture, not its details: half of the side is enough. Pictures
    of twice LONGEST_SIDE and more have previews that are decoded no smaller than shown, and less
    than twice as large. So for pictures of the package's own size; the preview of another size may
    be enlarged more (512x512 from 256x256).
    """
    halvings = max(1, int(math.log2(longest / LONGEST_SIDE)))
    return max(0, int(math.log2(scale_factor)) - halvings)


def picture_decoder(
    role: str,
    component: Component,
    wrap: Callable[[nn.Module], PictureDecoder],
    channels: int,
    max_size: int,
) -> RoleExport:
    """Export a decoder of pictures of at most `max_size` latents a side."""
    classes = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    network_class = classes[component.class_name]
    batch = Axis(BATCH, 1, 16)
    height, width = Axis(HEIGHT, 2, max_size), Axis(WIDTH, 2, max_size)

    def latents(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        shape = (sizes[BATCH], channels, sizes[HEIGHT], sizes[WIDTH])
        return torch.randn(shape, generator=generator)

    def load() -> nn.Module:
        return load_network(network_class, component)

    return RoleExport(
        role=role,
        component=component,
        skeleton=lambda: network_skeleton(network_class, component),
        load=load,
        wrap=wrap,
        inputs=(GraphInput("latents", {0: batch, 2: height, 3: width}, latents),),
        outputs=("image",),
        # The VAE of SDXL overflows fp16, and small decoders cost little in fp32. A compiler may
        # take fp16 where it has seen what fits: `engine_build.target.onnxruntime_cuda.narrowing`.
        precision="fp32",
        traced_at={BATCH: 2, HEIGHT: 8, WIDTH: 12},
        checked_at=(
            {BATCH: 1, HEIGHT: 16, WIDTH: 10},
            {BATCH: 3, HEIGHT: 6, WIDTH: 20},
        ),
        parameter_names=_attention_parameter_names,
    )


def vae_decoder(
    component: Component, scaling: LatentScaling, channels: int, max_size: int
) -> RoleExport:
    """Export an AutoencoderKL's decoder."""
    return picture_decoder(
        "vae_decoder", component, lambda network: VaeDecoder(network, scaling), channels, max_size
    )


def preview_role(component: Component, model: ModelExport) -> RoleExport:
    """Export a model's small decoder, for all sizes that the model draws. Raises SourceError."""
    largest = model.limits.max_size // model.latents.scale_factor
    longest = max(model.defaults.width, model.defaults.height)
    doublings = doublings_of_previews(model.latents.scale_factor, longest)
    return preview_decoder(component, model.latents.channels, largest, doublings)


def preview_decoder(
    component: Component, channels: int, max_size: int, doublings: int
) -> RoleExport:
    """Export a small decoder of the denoiser's latents, such as TAESDXL, of whose doublings of the
    size no more than the first ones are kept. Raises SourceError for another network.
    """
    found = component.config.get("latent_channels", 4)
    if component.class_name != "AutoencoderTiny" or found != channels:
        raise SourceError(
            f"{component.path}: class {component.class_name} with {found} latent channels, "
            f"expected AutoencoderTiny with {channels}"
        )

    for name, expected in (("upsampling_scaling_factor", 2), ("upsample_fn", "nearest")):
        if component.config.get(name, expected) != expected:
            raise SourceError(
                f"{component.path}: {name} is {component.config[name]}, expected {expected}"
            )

    def wrap(network: nn.Module) -> PreviewDecoder:
        return PreviewDecoder(network, doublings)

    return picture_decoder("preview_decoder", component, wrap, channels, max_size)


# Attention blocks of the VAE were spelled so before diffusers 0.15.
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def _attention_parameter_names(name: str) -> tuple[str, ...]:
    older = [
        name.replace(f".{new}.", f".{old}.")
        for new, old in _OLD_ATTENTION.items()
        if f".{new}." in name
    ]
    return (name, *older)
