"""Improves the picture decoder on whole scenes while the encoder stays as it is.

The latents do not change, so that this may go on while the UNet is trained on them.
"""

import argparse

import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)
from examples.demo_model.paths import WORK
from examples.demo_model.precision import autocast
from examples.demo_model.train_vae import (
    picture_loss,
    psnr,
    reconstruct,
    save_grid,
    scene_pictures,
    to_signed,
)

# Of the unscaled latents: a denoiser's latents are never as clean as the encoder's.
LATENT_NOISE = 0.03
PEAK_LEARNING_RATE = 6e-4


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=2, help="128x128 pictures a step")
    parser.add_argument("--pool", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=29)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def decoder_loss(vae: AutoencoderKL, pictures: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The error of the pictures decoded from slightly noisy latents."""
    with autocast(pictures.device.type):
        with torch.no_grad():
            latents = vae.encode(pictures).latent_dist.mean
        decoded = vae.decode(latents + LATENT_NOISE * noise).sample
    return picture_loss(decoded.float() - pictures)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    folder, device = WORK / "vae", arguments.device
    vae = AutoencoderKL.from_pretrained(folder).to(device)
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.99))
    state, first = load_checkpoint(folder / "decoder_checkpoint.pt"), 0
    if state is not None:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    pool = scene_pictures(arguments.pool, arguments.seed)
    held_back = to_signed(scene_pictures(48, arguments.seed + 1)).to(device)
    for step in tqdm(range(first, arguments.steps), mininterval=20):
        generator = step_generator(arguments.seed, step)
        rows = torch.randint(0, len(pool), (arguments.batch,), generator=generator)
        pictures = to_signed(pool[rows]).to(device)
        noise = torch.randn(arguments.batch, 4, 16, 16, generator=generator).to(device)
        rate = learning_rate(step, arguments.steps, PEAK_LEARNING_RATE, 50, 0.1)
        set_learning_rate(optimizer, rate)
        loss = decoder_loss(vae, pictures, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if (step + 1) % 250 == 0 or step + 1 == arguments.steps:
            _, decoded = reconstruct(vae, held_back)
            print(f"step {step + 1} psnr {psnr(decoded, held_back):.2f} dB", flush=True)
            save_grid([held_back[:12], decoded[:12]], WORK / "grid_vae.png")
            state = {
                "vae": vae.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            save_checkpoint(folder / "decoder_checkpoint.pt", state)
            vae.save_pretrained(folder)


if __name__ == "__main__":
    main()
