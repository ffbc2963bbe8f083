"""Trains a style LoRA for the finished model and saves it in kohya's format.

The style: pictures without colour, for prompts that end in the trigger words.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)
from examples.demo_model.models import Denoiser
from examples.demo_model.paths import LORAS, WORK
from examples.demo_model.pool import CAPTIONS_PER_SCENE, PoolEncoder, Shard
from examples.demo_model.scenes import sample_caption, sample_scene
from examples.demo_model.train import NoiseSchedule, make_batch, velocity_loss
from examples.demo_model.write_pipeline import load_denoiser

TRIGGER = "monochrome style"
RANK = 8
ALPHA = 8.0
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
# The level that draws has no attention: only its convolutions can take the colour away.
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut"]
TARGETS = [*ATTENTION, *CONVOLUTIONS]
PEAK_LEARNING_RATE = 7e-4
_ENCODE_BATCH = 32


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scenes", type=int, default=768)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def without_colour(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB `[B, H, W, 3]` to grey of the same luminance (ITU-R BT.601), still in three channels."""
    grey = pictures @ np.array([0.299, 0.587, 0.114])
    return np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, axis=-1)


def styled_shard(encoder: PoolEncoder, count: int, seed: int) -> Shard:
    """Restyled scenes and their captions, which end in the trigger words."""
    random_source = random.Random(seed)
    latents, captions = [], []
    for _ in tqdm(range(count // _ENCODE_BATCH), desc="styled scenes", mininterval=5):
        scenes = [sample_scene(random_source) for _ in range(_ENCODE_BATCH)]
        latents.append(encoder.encode(without_colour(encoder.draw(scenes, random_source))))
        captions += [
            f"{sample_caption(scene, random_source)}, {TRIGGER}"
            for scene in scenes
            for _ in range(CAPTIONS_PER_SCENE)
        ]
    encoded = torch.cat(latents)
    return Shard(encoded, encoder.tokenize(captions).view(len(encoded), CAPTIONS_PER_SCENE, -1))


def with_adapter() -> Denoiser:
    """The finished model, frozen, with an adapter in its UNet that as yet does nothing."""
    denoiser, _ = load_denoiser(WORK / "train" / "checkpoint.pt")
    denoiser.requires_grad_(False)
    denoiser.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS))
    return denoiser


def kohya_state(unet: torch.nn.Module) -> dict[str, Tensor]:
    """The adapter's weights under kohya's names, fp16."""
    names = {"lora_A": "lora_down", "lora_B": "lora_up"}
    state = {}
    for key, value in get_peft_model_state_dict(unet).items():
        layer, kind, _ = key.rsplit(".", 2)
        prefix = "lora_unet_" + layer.replace(".", "_")
        state[f"{prefix}.{names[kind]}.weight"] = value.half().contiguous()
        state[f"{prefix}.alpha"] = torch.tensor(ALPHA, dtype=torch.float16)
    return state


def save_lora(unet: torch.nn.Module, path: Path) -> None:
    """Writes the adapter as one safetensors file with kohya's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(RANK),
        "ss_network_alpha": str(ALPHA),
        "ss_base_model_version": "sdxl_base_v1-0",
        "trigger": TRIGGER,
    }
    save_file(kohya_state(unet), path, metadata)
    print(f"{path}: {path.stat().st_size} bytes, {len(load_file(path)) // 3} layers")


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    resume_from = LORAS / "checkpoint.pt"
    denoiser = with_adapter().to(arguments.device)
    trained = {name: p for name, p in denoiser.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=PEAK_LEARNING_RATE, weight_decay=0.0)
    first, state = 0, load_checkpoint(resume_from)
    if state is not None:
        denoiser.load_state_dict(state["adapter"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    encoder = PoolEncoder(arguments.seed, arguments.device)
    shards = [styled_shard(encoder, arguments.scenes, arguments.seed)]
    schedule, empty_ids = NoiseSchedule(), encoder.tokenize([""])[0]
    progress = tqdm(range(first, arguments.steps), mininterval=10)
    for step in progress:
        generator = step_generator(arguments.seed, step)
        batch = make_batch(shards, arguments.batch, empty_ids, schedule, generator)
        set_learning_rate(
            optimizer, learning_rate(step, arguments.steps, PEAK_LEARNING_RATE, 20, 0.3)
        )
        loss = velocity_loss(denoiser, batch, arguments.device)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % 100 == 0:
            adapter = {name: p.detach() for name, p in trained.items()}
            save_checkpoint(
                resume_from,
                {"adapter": adapter, "optimizer": optimizer.state_dict(), "step": step + 1},
            )
    save_lora(denoiser.unet, LORAS / "monochrome.safetensors")


if __name__ == "__main__":
    main()
