"""Trains the picture autoencoder on crops of composed scenes, and saves it with its scale."""

import argparse
import math
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch.nn import functional
from tqdm import tqdm

from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)
from examples.demo_model.compose import PICTURE_SIZE, Composer
from examples.demo_model.models import build_vae
from examples.demo_model.paths import ASSETS, WORK
from examples.demo_model.precision import autocast
from examples.demo_model.scenes import sample_scene

CROP = 64
KL_WEIGHT = 3e-5
SCAFFOLD_STEPS = 800


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4800)
    parser.add_argument("--batch", type=int, default=8, help="64x64 crops a step")
    parser.add_argument("--pool", type=int, default=3000, help="scenes the crops are taken from")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def scene_pictures(count: int, seed: int) -> torch.Tensor:
    """Composed scenes as uint8 `[count, 3, 128, 128]`."""
    composer, random_source = Composer(ASSETS), random.Random(seed)
    pictures = [
        composer.draw(sample_scene(random_source), random_source)
        for _ in tqdm(range(count), desc="scenes", mininterval=10)
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def to_signed(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 to float in -1..1."""
    return pictures.float() / 127.5 - 1


def random_crops(pool: torch.Tensor, batch: int, generator: torch.Generator) -> torch.Tensor:
    """Crops `[batch, 3, 64, 64]`, more often from the middle, where the things are."""
    rows = torch.randint(0, len(pool), (batch,), generator=generator).tolist()
    corners = torch.rand(batch, 2, 2, generator=generator).mean(-1) * (PICTURE_SIZE - CROP)
    return torch.stack(
        [
            pool[row, :, y : y + CROP, x : x + CROP]
            for row, (y, x) in zip(rows, corners.round().long().tolist(), strict=True)
        ]
    )


def vae_loss(
    vae: AutoencoderKL, pictures: torch.Tensor, noise: torch.Tensor, scaffold: float
) -> torch.Tensor:
    """Pixel, edge and coarse errors, and a weak pull of the latents to a unit normal.

    The scaffold, at the beginning, asks three latent channels to be the picture's thumbnail:
    without it the latents take long to carry all three colours.
    """
    with autocast(pictures.device.type):
        posterior = vae.encode(pictures).latent_dist
        decoded = vae.decode(posterior.mean + noise * posterior.std).sample
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    thumbnail = functional.avg_pool2d(pictures, 8)
    guided = (mean[:, :3] - thumbnail).square().mean()
    error = decoded.float() - pictures
    return picture_loss(error) + KL_WEIGHT * divergence + scaffold * guided


def picture_loss(error: torch.Tensor) -> torch.Tensor:
    """Pixel, edge and coarse errors of decoded pictures `[B, 3, H, W]`."""
    pixels = error.abs().mean() + 2 * error.square().mean()
    edges = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
    coarse = functional.avg_pool2d(error, 4).abs().mean()
    return pixels + 0.5 * edges + 0.5 * coarse


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unscaled latents and decoded pictures in -1..1."""
    latents, decoded = [], []
    for part in pictures.split(32):
        mean = vae.encode(part).latent_dist.mean
        latents.append(mean)
        decoded.append(vae.decode(mean).sample.clamp(-1, 1))
    return torch.cat(latents), torch.cat(decoded)


def psnr(decoded: torch.Tensor, pictures: torch.Tensor) -> float:
    """Decibels over all pixels, for pictures in -1..1."""
    return -10 * math.log10(((decoded - pictures) / 2).square().mean().item())


def save_grid(rows: list[torch.Tensor], path: Path) -> None:
    """One row of the grid for each batch of pictures in -1..1."""
    bands = [torch.cat(list(row), dim=2) for row in rows]
    pixels = ((torch.cat(bands, dim=1).clamp(-1, 1) + 1) * 127.5).round().byte()
    Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(path)


def prepare_posterior(vae: AutoencoderKL) -> None:
    """Starts the log-variance near -6, so that noise does not drown the first latents."""
    channels = vae.config["latent_channels"]
    with torch.no_grad():
        vae.quant_conv.weight[channels:] *= 0.05
        vae.quant_conv.bias[channels:] = -6


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    folder, device = WORK / "vae", arguments.device
    vae = build_vae().to(device)
    prepare_posterior(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    state = load_checkpoint(folder / "checkpoint.pt")
    first = 0
    if state is not None:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    pool = scene_pictures(arguments.pool, arguments.seed)
    held_back = to_signed(scene_pictures(96, arguments.seed + 1)).to(device)
    progress = tqdm(range(first, arguments.steps), mininterval=10)
    for step in progress:
        generator = step_generator(arguments.seed, step)
        crops = to_signed(random_crops(pool, arguments.batch, generator)).to(device)
        noise = torch.randn(arguments.batch, 4, 8, 8, generator=generator).to(device)
        set_learning_rate(optimizer, learning_rate(step, arguments.steps, 1.2e-3, 50, 0.4))
        scaffold = 2 * max(0.0, 1 - step / SCAFFOLD_STEPS)
        loss = vae_loss(vae, crops, noise, scaffold)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 200 == 0 or step + 1 == arguments.steps:
            _, decoded = reconstruct(vae, held_back[:32])
            print(f"step {step + 1} psnr {psnr(decoded, held_back[:32]):.2f} dB", flush=True)
            save_grid([held_back[:12], decoded[:12]], folder.parent / "grid_vae.png")
            save_checkpoint(
                folder / "checkpoint.pt",
                {
                    "vae": vae.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                },
            )
    latents, decoded = reconstruct(vae, held_back)
    scale = 1 / latents.std().item()
    vae.register_to_config(scaling_factor=scale)
    vae.save_pretrained(folder)
    print(f"done: psnr {psnr(decoded, held_back):.2f} dB, scaling factor {scale:.4f}")


if __name__ == "__main__":
    main()
