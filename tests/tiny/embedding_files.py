"""Files of textual inversions as trainers write them, small and random."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.tiny.models import TEXT_WIDTHS
from engine_build.embedding.packs import add_embedding
from runtime.package.inversion import Inversion, table_of
from runtime.package.manifest import ModelPackage

SPREAD = 0.6
"""The deviation of vectors that show in a picture of a tiny model."""

DEMO_SPREAD = 0.06
"""Likewise of the demo model, whose own embeddings have half of that."""


def vectors(
    count: int, widths: tuple[int, int] = TEXT_WIDTHS, seed: int = 0, spread: float = SPREAD
) -> dict[str, torch.Tensor]:
    """`count` vectors for each of SDXL's encoders, by kohya's names."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn((count, width), generator=generator) * spread
        for name, width in zip(("clip_l", "clip_g"), widths, strict=True)
    }


def add_word(package: ModelPackage, name: str, count: int, seed: int = 0) -> Inversion:
    """Give a package like the demo model's a word with vectors of its encoders' widths."""
    manifest = package.manifest
    first, second = (
        manifest.roles[role].parameters[table_of(manifest, role)].shape[1]
        for role in ("text_encoder", "text_encoder_2")
    )
    made = vectors(count, (first, second), seed, DEMO_SPREAD)
    with tempfile.TemporaryDirectory() as folder:
        return add_embedding(package, save(Path(folder) / f"{name}.safetensors", made), None)


def bodies_with_words(package: ModelPackage, lora: str) -> list[dict[str, object]]:
    """Parts of requests with a word of the package and without one, beside a LoRA on the same
    encoder, and in company; the first and the last are alike. The package is given the words."""
    add_word(package, "ink", 3)
    add_word(package, "oil", 2, seed=1)
    loras = [{"id": lora, "weight": 1.0}]
    return [
        {},
        {"prompt": "ink, a red heart"},
        {"prompt": "a heart", "negative_prompt": "(oil:1.2)", "cfg_scale": 3.0},
        {"prompt": "ink, a red heart", "loras": loras},
        {"loras": loras},
        {"prompt": "oil, a red heart"},
        {},
    ]


def save(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write a file as it is published."""
    save_file(dict(tensors), path)
    return path
