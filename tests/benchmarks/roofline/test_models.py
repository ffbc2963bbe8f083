"""Extents of published graphs, and the lengths of the texts that these graphs read."""

from pathlib import Path

import pytest

from benchmarks.real_size import MODELS
from benchmarks.roofline.models import DRAWINGS
from engine_build.checkpoint.single_file.open import open_source


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_of_each_model_has_a_row_of_its_denoiser_for_each_prompt(name: str) -> None:
    drawing = DRAWINGS[name]
    denoiser = drawing.extents("denoiser", 1024)
    assert (denoiser["height"], denoiser["width"], denoiser["batch"]) == (128, 128, 1)
    assert denoiser["evaluations"] == drawing.extents("text_encoder", 1024)["batch"]
    assert name in MODELS


@pytest.mark.parametrize(
    ("name", "tokenizer", "length"),
    [("flux-dev", "tokenizer_2", 512), ("flux-dev", "tokenizer", 77), ("chroma", "tokenizer", 512)],
)
def test_tokenizers_around_published_networks_have_the_published_length(
    name: str, tokenizer: str, length: int, tmp_path: Path
) -> None:
    MODELS[name].save_around(tmp_path / name)
    assert open_source(tmp_path / name, None).tokenizer(tokenizer).max_length == length
