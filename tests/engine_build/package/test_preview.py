"""The matrix from latents to colours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from engine_build.checkpoint.sources import open_folder
from engine_build.package.export.latents import LatentScaling
from engine_build.package.preview import fit_matrix, fit_preview, synthetic_pictures
from runtime.package.manifest import MatrixPreview, load_package


def test_a_linear_decoder_is_found_again() -> None:
    random = np.random.default_rng(0)
    latents, matrix, bias = (
        random.normal(size=(900, 4)),
        random.normal(size=(4, 3)),
        [0.1, 0.5, 0.9],
    )
    preview = fit_matrix(latents, latents @ matrix + bias, held_out=300)
    np.testing.assert_allclose(preview.matrix, matrix, atol=1e-12)
    np.testing.assert_allclose(preview.bias, bias, atol=1e-12)
    assert preview.explained == pytest.approx(1)


def test_what_the_matrix_explains_is_measured_on_other_pictures() -> None:
    random = np.random.default_rng(0)
    latents, noise = random.normal(size=(4000, 1)), random.normal(size=(4000, 3))
    half = fit_matrix(latents, latents + noise, held_out=2000)
    assert half.explained == pytest.approx(0.5, abs=0.05)
    # A perfect fit of the first pictures says nothing of the others.
    unrelated = fit_matrix(np.eye(20), random.normal(size=(20, 3)), held_out=10)
    assert unrelated.explained == 0


def test_pictures_to_fit_on_fill_the_range_of_colours() -> None:
    pictures = synthetic_pictures(4, 64, torch.Generator().manual_seed(0))
    assert pictures.shape == (4, 3, 64, 64)
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert pictures.std() > 0.3
    # Neighbours are alike, as in photographs.
    assert (pictures[..., 1:] - pictures[..., :-1]).abs().mean() < 0.5 * pictures.std()


def test_the_fitted_matrix_shows_roughly_what_the_vae_decodes(tiny_v_source: Path) -> None:
    vae = open_folder(tiny_v_source).network("vae", ("AutoencoderKL",))
    preview = fit_preview(vae, LatentScaling.normalised(vae.config))
    network = AutoencoderKL.from_pretrained(tiny_v_source / "vae")
    picture = synthetic_pictures(1, 128, torch.Generator().manual_seed(77))
    with torch.no_grad():
        latents = network.encode(picture).latent_dist.mean * network.config.scaling_factor
        decoded = network.decode(latents / network.config.scaling_factor).sample
    colours = torch.nn.functional.avg_pool2d((decoded / 2 + 0.5).clamp(0, 1), 8)
    shown = torch.einsum("bchw,cr->brhw", latents, torch.tensor(preview.matrix))
    shown = shown + torch.tensor(preview.bias)[:, None, None]
    flat = colours.mean(dim=(2, 3), keepdim=True)
    assert (shown - colours).square().mean() < 0.98 * (flat - colours).square().mean()
    assert 0.1 < preview.explained <= 1


def test_a_package_without_a_preview_decoder_has_the_matrix(
    tiny_v_package: Path, tiny_v_source: Path
) -> None:
    manifest = load_package(tiny_v_package, "tiny_v").manifest
    assert isinstance(manifest.preview, MatrixPreview)
    assert "preview_decoder" not in manifest.roles
    vae = open_folder(tiny_v_source).network("vae", ("AutoencoderKL",))
    assert manifest.preview == fit_preview(vae, LatentScaling.normalised(vae.config))
