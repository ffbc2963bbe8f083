"""Writes the trained networks as a plain diffusers pipeline folder, in fp16."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from examples.demo_model.checkpoints import load_checkpoint
from examples.demo_model.models import DEMO, Denoiser, Widths, build_scheduler
from examples.demo_model.paths import WORK


def load_denoiser(checkpoint: Path, widths: Widths = DEMO) -> tuple[Denoiser, int]:
    """The averaged weights of a training, and their step where the checkpoint says it."""
    state = load_checkpoint(checkpoint)
    if state is None:
        raise SystemExit(f"{checkpoint} does not exist: train the model first")
    denoiser = Denoiser(widths).eval()
    denoiser.load_state_dict(state["average"])
    return denoiser, state.get("step", 0)


def build_pipeline(denoiser: Denoiser) -> StableDiffusionXLPipeline:
    """The pipeline that SDXL's own users would load."""
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(WORK / "vae"),
        text_encoder=denoiser.text_encoder,
        text_encoder_2=denoiser.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=denoiser.unet,
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def write_folder(pipeline: StableDiffusionXLPipeline, target: Path) -> None:
    """Writes the pipeline beside the target, then renames."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(partial, safe_serialization=True)
    forget_origins(partial)
    if target.exists():
        target.rename(target.with_name(target.name + ".old"))
    partial.rename(target)
    shutil.rmtree(target.with_name(target.name + ".old"), ignore_errors=True)


def forget_origins(folder: Path) -> None:
    """Takes the paths of the training machine out of the configurations."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=WORK / "train" / "checkpoint.pt")
    parser.add_argument("--target", type=Path, default=WORK / "pipeline")
    arguments = parser.parse_args()
    denoiser, step = load_denoiser(arguments.checkpoint)
    write_folder(build_pipeline(denoiser), arguments.target)
    weights = sorted(arguments.target.rglob("*.safetensors"))
    for path in weights:
        print(f"{path.relative_to(arguments.target)}: {path.stat().st_size} bytes")
    print(f"{arguments.target}: weights of step {step}")


if __name__ == "__main__":
    main()
