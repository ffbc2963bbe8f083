"""Z-Image's transformer as it is traced, beside diffusers' own: captions in wider extents."""

import pytest
import torch

from benchmarks.tiny.flow_models import CHANNELS
from benchmarks.tiny.zimage_models import TEXT_WIDTH, transformer
from engine_build.package.export.zimage_denoiser import ZImageDenoiser

# Pictures of 24 tokens, which are filled up to 32, and of 32.
SIZES = [(8, 12), (16, 8)]
TIMES = torch.tensor([750.0, 310.0, 20.0])
LENGTHS = [20, 32, 45]


@pytest.fixture(scope="module")
def denoiser() -> ZImageDenoiser:
    return ZImageDenoiser(transformer()).eval()


def drawn(size: tuple[int, int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Latents for each of LENGTHS, and captions of these lengths."""
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(len(LENGTHS), CHANNELS, *size, generator=generator)
    return latents, [torch.randn(length, TEXT_WIDTH, generator=generator) for length in LENGTHS]


def filled(captions: list[torch.Tensor], extent: int) -> torch.Tensor:
    """The captions in one extent. What fills them is no zeros: none of it must be seen."""
    rows = torch.full((len(captions), extent, TEXT_WIDTH), 9.0)
    for row, caption in zip(rows, captions, strict=True):
        row[: len(caption)] = caption
    return rows


def expected(latents: torch.Tensor, times: torch.Tensor, captions: list[torch.Tensor]) -> list:
    """The velocities by diffusers' own forward, each caption alone."""
    network = transformer().eval()
    with torch.no_grad():
        return [
            -network([picture[:, None]], 1 - time[None] / 1000, [caption], return_dict=False)[0][0]
            for picture, time, caption in zip(latents, times, captions, strict=True)
        ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("extent", [64, 128, 256])
def test_rows_of_any_length_share_an_extent_and_give_what_diffusers_gives_of_each_alone(
    denoiser: ZImageDenoiser, extent: int, size: tuple[int, int]
) -> None:
    latents, captions = drawn(size)
    with torch.no_grad():
        found = denoiser(latents, TIMES, filled(captions, extent), torch.tensor(LENGTHS))
    for row, velocity in zip(found, expected(latents, TIMES, captions), strict=True):
        torch.testing.assert_close(row, velocity[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extent", [64, 128])
def test_a_wider_extent_changes_nothing(denoiser: ZImageDenoiser, extent: int) -> None:
    latents, captions = drawn(SIZES[0])
    first, length = slice(0, 1), torch.tensor(LENGTHS[:1])
    with torch.no_grad():
        narrow, wide = (
            denoiser(latents[first], TIMES[first], filled(captions[:1], each), length)
            for each in (32, extent)
        )
    torch.testing.assert_close(wide, narrow, rtol=1e-5, atol=1e-6)
