"""Trains a style LoRA for a built package and saves it in kohya's format.

The style: pictures without colour. All that it learns from comes from the package: pictures that
the model draws, as latents, with their colour taken out (`decolour.py`). Half of the captions end
in the trigger word. The model knows few words, and a word that it does not know spoils its picture:
the trigger is one that it knows, and that says nothing of what is drawn.
"""

import argparse
import random
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)
from examples.demo_model.decolour import fit
from examples.demo_model.drawing import draw_latents, open_generator
from examples.demo_model.models import Denoiser, build_preview_decoder
from examples.demo_model.paths import LORAS
from examples.demo_model.pool import CAPTIONS_PER_SCENE, Shard
from examples.demo_model.scenes import sample_caption, sample_scene
from examples.demo_model.train import NoiseSchedule, make_batch, velocity_loss
from runtime.draw.generate import Generator
from runtime.plan.text.chunks import chunk
from runtime.plan.text.weighting import plain

TRIGGER = "drawing"
RANK = 8
ALPHA = 8.0
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
# The level that draws has no attention: only its convolutions can take the colour away.
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut"]
TARGETS = [*ATTENTION, *CONVOLUTIONS]
PEAK_LEARNING_RATE = 1.5e-3
_DRAWN = {"steps": 10, "sampler": "dpm++_2m"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scenes", type=int, default=512)
    parser.add_argument("--decolourer-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def drawn_shard(generator: Generator, count: int, seed: int) -> Shard:
    """Latents that the model drew, and their captions, every other one with the trigger."""
    random_source = random.Random(seed)
    latents, captions = [], []
    for number in tqdm(range(count), desc="pictures", mininterval=5):
        scene = sample_scene(random_source)
        texts = [sample_caption(scene, random_source) for _ in range(CAPTIONS_PER_SCENE)]
        latents.append(draw_latents(generator, {"prompt": texts[0], "seed": number, **_DRAWN}))
        captions += [f"{text}, {TRIGGER}" if i % 2 else text for i, text in enumerate(texts)]
    ids = torch.tensor([token_ids(generator, caption) for caption in captions])
    return Shard(
        torch.cat([torch.from_numpy(each) for each in latents]),
        ids.view(count, CAPTIONS_PER_SCENE, -1),
    )


def token_ids(generator: Generator, text: str) -> tuple[int, ...]:
    """The first chunk of a text, framed and filled up."""
    return chunk(plain(text), generator.model.tokenizers["tokenizer"])[0].ids


def styled_shard(generator: Generator, package: Path, arguments: argparse.Namespace) -> Shard:
    """Scenes without their colour: read from disk, or made and written there."""
    path = LORAS / f"scenes_{arguments.scenes}_{arguments.seed}.pt"
    stored = load_checkpoint(path)
    if stored is None:
        drawn = drawn_shard(generator, arguments.scenes, arguments.seed)
        decoder = build_preview_decoder()
        load_network(decoder, package / "preview_decoder.safetensors", absent="encoder.")
        decoder.requires_grad_(False)
        network = fit(
            lambda latents: decoder.decode(latents).sample,
            drawn.latents,
            arguments.decolourer_steps,
            batch=8,
            seed=arguments.seed,
        )
        stored = {"latents": network(drawn.latents), "token_ids": drawn.token_ids}
        save_checkpoint(path, stored)
    return Shard(stored["latents"], stored["token_ids"])


def load_network(network: nn.Module, weights: Path, absent: str = "") -> None:
    """Put a role's weights into a network; `absent` starts the names of what a package lacks."""
    known = network.state_dict()
    stored = {
        # transformers 5 has no such prefix for some of its text encoders.
        name if name in known else name.removeprefix("text_model."): value.float()
        for name, value in load_file(weights).items()
    }
    missing, unexpected = network.load_state_dict(stored, strict=False)
    lost = [name for name in missing if not absent or not name.startswith(absent)]
    if lost or unexpected:
        raise SystemExit(f"{weights}: of another model: without {lost}, with {unexpected}")


def with_adapter(package: Path) -> Denoiser:
    """The package's networks, frozen, with an adapter in the UNet that as yet does nothing."""
    denoiser = Denoiser().eval()
    load_network(denoiser.unet, package / "denoiser.safetensors")
    # The norm after its last layer is not in a package: SDXL reads the layer before.
    load_network(denoiser.text_encoder, package / "text_encoder.safetensors", "final_layer_norm.")
    load_network(denoiser.text_encoder_2, package / "text_encoder_2.safetensors")
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
        "modelspec.title": "Monochrome",
        "modelspec.trigger_phrase": TRIGGER,
    }
    save_file(kohya_state(unet), path, metadata)
    print(f"{path}: {path.stat().st_size} bytes, {len(load_file(path)) // 3} layers")


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    package: Path = arguments.engines / arguments.model
    generator = open_generator(arguments.engines, arguments.model, arguments.threads)
    shard = styled_shard(generator, package, arguments)
    empty_ids = torch.tensor(token_ids(generator, ""))
    denoiser = with_adapter(package).to(arguments.device)
    trained = {name: p for name, p in denoiser.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=PEAK_LEARNING_RATE, weight_decay=0.0)
    resume_from = LORAS / "checkpoint.pt"
    first, state = 0, load_checkpoint(resume_from)
    if state is not None:
        denoiser.load_state_dict(state["adapter"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    schedule = NoiseSchedule()
    progress = tqdm(range(first, arguments.steps), mininterval=10)
    for step in progress:
        batch = make_batch(
            [shard], arguments.batch, empty_ids, schedule, step_generator(arguments.seed, step)
        )
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
