"""Tiles: every pixel covered once in sum, seams that are not seen."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import Array
from runtime.draw.decode import NetworkDecoder, Pixels
from runtime.draw.generate import Generator
from runtime.draw.tiles import MARGIN, OVERLAP, Axis, TiledDecoder
from runtime.plan.model import open_model
from tests.tiny.wide_demo import demo_of_all_sizes

SCALE = 8


class Local:
    """A decoder whose pixels depend on their latent and its eight neighbours alone."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        self.shapes.append(latents.shape)
        *_, height, width = latents.shape
        padded = np.pad(latents[0, :3], ((0, 0), (1, 1), (1, 1)))
        sums = sum(
            padded[:, down : down + height, right : right + width]
            for down in range(3)
            for right in range(3)
        )
        pixels: Pixels = np.kron(sums.transpose(1, 2, 0), np.ones((SCALE, SCALE, 1)))
        return pixels.astype(np.uint8)


class Moody:
    """A decoder of even pictures, each call's of another tone: group norms at their worst."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        *_, height, width = latents.shape
        tone = self._random.integers(120, 137, 3, np.uint8)
        return np.broadcast_to(tone, (height * SCALE, width * SCALE, 3))


SPREADS = [
    (extent, tile)
    for tile in (16, 20, 33, 64, 128)
    for extent in (2, tile - 1, tile, tile + 1, 2 * tile - 3, 3 * tile, 5 * tile + 7)
]


@pytest.mark.parametrize(("extent", "tile"), SPREADS)
def test_the_weights_at_every_pixel_have_the_sum_1(extent: int, tile: int) -> None:
    axis = Axis.spread(extent, tile)
    assert axis.begins[0] == 0
    assert axis.begins[-1] + axis.tile == extent
    sums = np.zeros(extent * SCALE)
    for begin, weight in zip(axis.begins, axis.weights(SCALE), strict=True):
        assert weight.shape == (axis.tile * SCALE,)
        assert weight.min() >= 0
        sums[begin * SCALE : (begin + axis.tile) * SCALE] += weight
    np.testing.assert_allclose(sums, 1, atol=1e-6)


@pytest.mark.parametrize(("extent", "tile"), SPREADS)
def test_neighbours_overlap_and_their_margins_have_no_weight(extent: int, tile: int) -> None:
    axis = Axis.spread(extent, tile)
    weights = axis.weights(SCALE)
    margin = tile // MARGIN * SCALE
    for at in range(len(axis.begins) - 1):
        assert axis.begins[at + 1] - axis.begins[at] <= tile - tile // OVERLAP
        assert not weights[at][-margin:].any()
        assert not weights[at + 1][:margin].any()


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (64, 48), (50, 16), (10, 61)])
def test_a_local_decoder_gives_the_very_same_picture_in_tiles_of_one_shape(
    size: tuple[int, int],
) -> None:
    latents = np.random.default_rng(1).integers(0, 28, (1, 4, *size)).astype(np.float32)
    tiled = Local()
    np.testing.assert_array_equal(
        TiledDecoder(tiled, (16, 16), SCALE).decode(latents), Local().decode(latents)
    )
    assert set(tiled.shapes) == {(1, 4, *(min(16, side) for side in size))}


def test_tones_of_tiles_come_together() -> None:
    latents = np.zeros((1, 4, 64, 64), np.float32)
    pixels = TiledDecoder(Moody(), (16, 16), SCALE).decode(latents)
    # Of single tiles the deviation is 4.9.
    assert pixels.std(axis=(0, 1)).max() < 1.5
    steps = [np.abs(np.diff(pixels.astype(int), axis=axis)).max() for axis in (0, 1)]
    assert max(steps) <= 1


class Pictures(NamedTuple):
    """Pictures of the demo model, larger than its own size."""

    latents: list[Array]
    whole: list[Pixels]
    vae: NetworkDecoder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    model = open_model(demo_of_all_sizes(tmp_path_factory.mktemp("engines")), "demo")
    backend = OnnxRuntimeCpu(model.package)
    generator = Generator(model, backend)
    vae = NetworkDecoder(backend.open("vae_decoder"))
    latents = []
    for seed, prompt in enumerate(("a dog face", "a house with a garden", "a green tree")):
        body = {"prompt": prompt, "seed": seed, "width": 384, "height": 384, "steps": 8}
        *_, last = (
            generator.latents(event.sample)
            for event in generator.steps(model.plan(model.read(body)))
        )
        latents.append(last)
    return Pictures(latents, [vae.decode(each) for each in latents], vae)


def slope(pixels: Pixels, whole: Pixels, lines: list[int]) -> float:
    """The mean change of the difference from each of these lines of pixels to the next, down and
    across, in levels of 255.
    """
    difference = pixels.astype(float) - whole
    changes = (np.abs(np.diff(difference, axis=axis)).take(lines, axis) for axis in (0, 1))
    return float(np.mean(list(map(np.mean, changes))))


def test_seams_are_not_seen_in_real_pictures(pictures: Pictures) -> None:
    side, tile = 384, 128
    axis = Axis.spread(side // SCALE, tile // SCALE)
    overlaps: set[int] = set()
    for before, behind in zip(axis.begins, axis.begins[1:], strict=False):
        overlaps |= set(range(behind * SCALE, before * SCALE + tile - 1))
    elsewhere = sorted(set(range(side - 1)) - overlaps)
    for latents, whole in zip(pictures.latents, pictures.whole, strict=True):
        pixels = TiledDecoder(pictures.vae, (16, 16), SCALE).decode(latents)
        difference = np.abs(pixels.astype(int) - whole)
        # Measured over eight pictures: 1.6 and 25 at most.
        assert difference.mean() < 2.5
        assert difference.max() < 50
        seams = slope(pixels, whole, sorted(overlaps))
        # Two roundings to 8 bits alone make some 0.2.
        assert seams < 0.5
        assert seams < 1.2 * slope(pixels, whole, elsewhere)
        joined = np.zeros_like(whole)
        for top in range(0, side, tile):
            for left in range(0, side, tile):
                place = (slice(top, top + tile), slice(left, left + tile))
                down, right = (slice(each.start // SCALE, each.stop // SCALE) for each in place)
                joined[place] = pictures.vae.decode(latents[..., down, right])
        # What the figure is for tiles that are set side by side.
        assert slope(joined, whole, [tile - 1, 2 * tile - 1]) > 2
