"""Trains the preview decoder: scaled latents to pictures, in AutoencoderTiny's shape."""

import argparse

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)
from examples.demo_model.models import build_preview_decoder
from examples.demo_model.paths import POOL, WORK
from examples.demo_model.precision import autocast
from examples.demo_model.train_vae import psnr, save_grid


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--pool", type=int, default=768, help="latents to learn from")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def preview_loss(preview: AutoencoderTiny, latents: Tensor, pictures: Tensor) -> Tensor:
    """Pixel and edge errors against what the real decoder draws."""
    with autocast("cpu"):
        decoded = preview.decode(latents).sample
    error = decoded.float() - pictures
    edges = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
    return error.abs().mean() + error.square().mean() + 0.5 * edges


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    folder = WORK / "preview_decoder"
    vae = AutoencoderKL.from_pretrained(WORK / "vae").eval().requires_grad_(False)
    preview = build_preview_decoder()
    optimizer = torch.optim.AdamW(preview.decoder.parameters(), lr=2e-3, betas=(0.9, 0.99))
    state, first = load_checkpoint(folder / "checkpoint.pt"), 0
    if state is not None:
        preview.load_state_dict(state["preview"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    pool = torch.load(POOL / "0000.pt", weights_only=True)["latents"].float()
    held_back, pool = pool[:16], pool[16 : 16 + arguments.pool]
    targets = decode(vae, pool)
    for step in tqdm(range(first, arguments.steps), mininterval=10):
        generator = step_generator(arguments.seed, step)
        rows = torch.randint(0, len(pool), (arguments.batch,), generator=generator)
        set_learning_rate(optimizer, learning_rate(step, arguments.steps, 2e-3, 50, 0.4))
        loss = preview_loss(preview, pool[rows], targets[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(preview.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 200 == 0 or step + 1 == arguments.steps:
            state = {
                "preview": preview.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            save_checkpoint(folder / "checkpoint.pt", state)
            preview.save_pretrained(folder)
            report(vae, preview, held_back)


@torch.no_grad()
def report(vae: AutoencoderKL, preview: AutoencoderTiny, latents: Tensor) -> None:
    """Says how close the previews come to the real decoder, and draws both."""
    pictures, decoded = decode(vae, latents), preview.decode(latents).sample
    save_grid([pictures[:12], decoded[:12]], WORK / "grid_preview.png")
    print(f"psnr against the real decoder {psnr(decoded, pictures):.2f} dB", flush=True)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents `[N, 4, h, w]` to pictures in -1..1 by the real decoder."""
    decoded = []
    for part in latents.split(16):
        with autocast("cpu"):
            decoded.append(vae.decode(part / vae.config["scaling_factor"]).sample.float())
    return functional.hardtanh(torch.cat(decoded))


if __name__ == "__main__":
    main()
