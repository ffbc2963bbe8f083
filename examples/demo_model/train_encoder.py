"""Trains a new encoder for the decoder of a built package.

A package holds no encoder. With one for its decoder, another UNet can be trained, and the decoder
has not to be trained again; the preview decoder has, since latents get another scale.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)
from examples.demo_model.models import build_vae
from examples.demo_model.paths import WORK
from examples.demo_model.precision import autocast
from examples.demo_model.train_vae import (
    picture_loss,
    psnr,
    random_crops,
    reconstruct,
    save_grid,
    scene_pictures,
    to_signed,
)

PEAK_LEARNING_RATE = 1.5e-3
PULL = 1e-3


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, default=Path("engines/demo"))
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=8, help="64x64 crops a step")
    parser.add_argument("--pool", type=int, default=2000, help="scenes the crops are taken from")
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def load_decoder(network: nn.Module, weights: Path) -> None:
    """Puts a role's weights into a network; what the file lacks must belong to the encoder."""
    stored = {name: value.float() for name, value in load_file(weights).items()}
    missing, unexpected = network.load_state_dict(stored, strict=False)
    lost = [name for name in missing if not name.startswith(("encoder.", "quant_conv."))]
    if lost or unexpected:
        raise SystemExit(f"{weights}: of another model: without {lost}, with {unexpected}")


def encoder_loss(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """The error of the pictures that the fixed decoder makes of the encoder's latents.

    Where a decoder is saturated, latents could grow for nothing: a weak pull keeps them small.
    """
    with autocast(pictures.device.type):
        latents = vae.encode(pictures).latent_dist.mean
        decoded = vae.decode(latents).sample
    return picture_loss(decoded.float() - pictures) + PULL * latents.float().square().mean()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    folder, device, package = WORK / "vae", arguments.device, arguments.package
    vae = build_vae()
    load_decoder(vae, package / "vae_decoder.safetensors")
    vae.to(device).requires_grad_(False)
    trained = [*vae.encoder.parameters(), *vae.quant_conv.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.99))
    state, first = load_checkpoint(folder / "encoder_checkpoint.pt"), 0
    if state is not None:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    pool = scene_pictures(arguments.pool, arguments.seed)
    held_back = to_signed(scene_pictures(32, arguments.seed + 1)).to(device)
    for step in tqdm(range(first, arguments.steps), mininterval=20):
        generator = step_generator(arguments.seed, step)
        crops = to_signed(random_crops(pool, arguments.batch, generator)).to(device)
        rate = learning_rate(step, arguments.steps, PEAK_LEARNING_RATE, 50, 0.3)
        set_learning_rate(optimizer, rate)
        loss = encoder_loss(vae, crops)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if (step + 1) % 200 == 0 or step + 1 == arguments.steps:
            latents, decoded = reconstruct(vae, held_back)
            print(
                f"step {step + 1} psnr {psnr(decoded, held_back):.2f} dB, "
                f"latents of deviation {latents.std().item():.3f}",
                flush=True,
            )
            save_grid([held_back[:12], decoded[:12]], WORK / "grid_vae.png")
            state = {
                "vae": vae.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            save_checkpoint(folder / "encoder_checkpoint.pt", state)
    latents, _ = reconstruct(vae, held_back)
    vae.register_to_config(scaling_factor=1 / latents.std().item())
    vae.save_pretrained(folder)


if __name__ == "__main__":
    main()
