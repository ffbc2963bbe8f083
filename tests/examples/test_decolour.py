"""Latents lose their colour, and pictures keep their light."""

import torch
from torch import Tensor, nn

from examples.demo_model.decolour import Decolourer, fit, grey


def linear_decoder() -> nn.Module:
    """Three colours for each latent, as they are mixed in four channels."""
    torch.manual_seed(0)
    return nn.Conv2d(4, 3, 1).requires_grad_(False)


def chroma(pictures: Tensor) -> float:
    return float((pictures.amax(1) - pictures.amin(1)).mean())


def test_grey_is_the_luminance_in_every_channel() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert torch.equal(grey(red), torch.full((1, 3, 1, 1), 0.299))
    white = torch.ones(1, 3, 2, 2)
    assert torch.allclose(grey(white), white)


def test_a_fitted_one_takes_the_colour_and_leaves_the_light() -> None:
    decoder = linear_decoder()
    latents = torch.randn(32, 4, 16, 16)
    network = fit(decoder, latents, steps=400, batch=16, seed=1)
    coloured, without = decoder(latents), decoder(network(latents))
    assert chroma(without) < 0.15 * chroma(coloured)
    error = (grey(without) - grey(coloured)).abs().mean()
    assert error < 0.15 * grey(coloured).std()


def test_an_unfitted_one_does_not() -> None:
    torch.manual_seed(1)
    decoder, latents = linear_decoder(), torch.randn(32, 4, 16, 16)
    assert chroma(decoder(Decolourer()(latents))) > 0.5 * chroma(decoder(latents))
