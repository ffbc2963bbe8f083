"""Writes a diffusers folder of SDXL so that transformers 4 reads it too.

transformers 5 leaves a prefix out of the names of a CLIP text model, and writes a tokenizer as one
file; transformers 4 wants the prefix, and the vocabulary and merges as files of their own.
"""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

_PREFIX = "text_model."


def write_older_folder(source: Path, folder: Path) -> None:
    """Copy `source` to `folder`, in both forms."""
    shutil.copytree(source, folder)
    for tokenizer in ("tokenizer", "tokenizer_2"):
        _split_tokenizer(folder / tokenizer)
    weights = folder / "text_encoder" / "model.safetensors"
    named = {
        name if name.startswith(_PREFIX) else _PREFIX + name: value
        for name, value in load_file(weights).items()
    }
    save_file(named, weights, metadata={"format": "pt"})


def _split_tokenizer(folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
