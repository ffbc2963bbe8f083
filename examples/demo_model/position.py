"""A training aid: teaches the UNet early where in the picture each of its features is.

Convolutions learn positions from their zero padding alone, which takes them thousands of steps;
until then left and right, and top and bottom, look the same to them. Small heads that must name
the place from the features inside the UNet shorten that. They are thrown away after training.
"""

import math

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn


class PositionScaffold(nn.Module):
    """Linear heads on the UNet's features, and the error of the places that they name."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        widths = unet.config["block_out_channels"]
        watched: list[tuple[nn.Module, int]] = [
            (unet.down_blocks[0].resnets[1], widths[0]),
            (unet.down_blocks[1].resnets[1], widths[1]),
            (unet.mid_block.resnets[1], widths[2]),
            (unet.up_blocks[0].resnets[2], widths[2]),
            (unet.up_blocks[1].resnets[0], widths[1]),
            (unet.up_blocks[1].resnets[2], widths[1]),
            (unet.up_blocks[2].resnets[0], widths[0]),
            (unet.up_blocks[2].resnets[2], widths[0]),
        ]
        self.heads = nn.ModuleList(nn.Conv2d(width, 6, 1) for _, width in watched)
        self._features: list[Tensor] = []
        for module, _ in watched:
            module.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if self.training:
            self._features.append(output)

    def loss(self) -> Tensor:
        """The mean squared error over all heads since the last call."""
        errors = [
            (head(features.float()) - _places(*features.shape[-2:])).square().mean()
            for head, features in zip(self.heads, self._features, strict=True)
        ]
        self._features.clear()
        return torch.stack(errors).mean()


def _places(height: int, width: int) -> Tensor:
    """Coordinates in -1..1 and their first harmonics, `[6, height, width]`."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    waves = [torch.cos(math.pi * y), torch.cos(math.pi * x)]
    return torch.stack([y, x, *waves, torch.sin(math.pi * y), torch.sin(math.pi * x)])
