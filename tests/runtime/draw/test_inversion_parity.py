"""Textual inversions, against `load_textual_inversion` of diffusers on the same model."""

import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from engine_build.embedding.packs import add_embedding, remove_embedding
from engine_build.lora.packs import LoraRequest, add_pack
from runtime.draw.generate import Generator
from runtime.errors import PackageError
from runtime.package.manifest import read_package
from tests.parity import assert_changed, assert_same, generator_of, ours
from tests.runtime.draw.test_weighted_parity import BODY, drawn_by, reference
from tests.tiny.embedding_files import save, vectors
from tests.tiny.lora_files import KOHYA, LoraWriter

INK, CRUDE, GLOW = vectors(3), vectors(5, seed=1), vectors(2, seed=2)
INK_TOKENS = "ink ink_1 ink_2"
CRUDE_TOKENS = "crude crude_1 crude_2 crude_3 crude_4"

WORDS = "a red apple " * 24
"""72 tokens, which leaves 3 of a chunk."""


@pytest.fixture(scope="module")
def generator(tiny_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """The tiny SDXL with the embeddings `ink` and `crude`, and a LoRA with `glow` in it."""
    folder = tmp_path_factory.mktemp("embedded")
    shutil.copytree(tiny_package / "tiny", folder / "engines" / "tiny")
    package = read_package(folder / "engines", "tiny")
    for name, tensors in (("ink", INK), ("crude", CRUDE)):
        add_embedding(package, save(folder / f"{name}.safetensors", tensors), None)
    bundle = {f"bundle_emb.glow.{key}": tensor for key, tensor in GLOW.items()}
    lora = LoraWriter(KOHYA)
    lora.lora("mid_block.attentions.0.proj_in", (32, 32), 2, None)
    path = save(folder / "lit.safetensors", {**lora.tensors, **bundle})
    add_pack(package, LoraRequest(path, "lit"))
    return generator_of(folder / "engines", "tiny")


@pytest.fixture(scope="module")
def pipeline(tiny_source: Path) -> diffusers.StableDiffusionXLPipeline:
    opened = diffusers.StableDiffusionXLPipeline.from_pretrained(tiny_source, dtype=torch.float32)
    opened.set_progress_bar_config(disable=True)
    for token, tensors in (("ink", INK), ("crude", CRUDE), ("glow", GLOW)):
        opened.load_textual_inversion(
            tensors["clip_l"],
            token=token,
            text_encoder=opened.text_encoder,
            tokenizer=opened.tokenizer,
        )
        opened.load_textual_inversion(
            tensors["clip_g"],
            token=token,
            text_encoder=opened.text_encoder_2,
            tokenizer=opened.tokenizer_2,
        )
    # Otherwise transformers pools at the highest id, as SDXL's old configuration has it, which then
    # is a vector's; the web UI and ComfyUI pool at the end token, too.
    opened.text_encoder_2.text_model.eos_token_id = opened.tokenizer_2.eos_token_id
    return opened


def drawn_by_diffusers(
    pipeline: diffusers.StableDiffusionXLPipeline, prompt: str, negative: str
) -> tuple[np.ndarray, np.ndarray]:
    """diffusers' own reading of both prompts: final latents, and pixels."""
    return drawn_by(pipeline, {"prompt": prompt, "negative_prompt": negative})


def body(prompt: str, negative: str, **changes: Any) -> dict[str, Any]:
    return {**BODY, "prompt": prompt, "negative_prompt": negative, **changes}


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(
    ("prompt", "theirs"),
    [
        ("a photo of a red apple, ink", "a photo of a red apple, ink"),
        ("Ink of two cats", "ink of two cats"),
        ("a photo of embedding:ink, apple", "a photo of ink, apple"),
        ("embedding:ink.safetensors apple, ink", "ink apple, ink"),
    ],
)
def test_words_in_either_prompt(
    generator: Generator,
    pipeline: diffusers.StableDiffusionXLPipeline,
    prompt: str,
    theirs: str,
    weighted: bool,
) -> None:
    found = ours(generator, body(prompt, "blurry, crude", prompt_weighting=weighted))
    assert_same(found, drawn_by_diffusers(pipeline, theirs, "blurry, crude"))


def test_words_with_weights(
    generator: Generator, pipeline: diffusers.StableDiffusionXLPipeline
) -> None:
    found = ours(generator, body("a (ink:1.4) apple", "low quality, (embedding:crude:0.7)"))
    positive = (("a", 1.0), (INK_TOKENS, 1.4), ("apple", 1.0))
    negative = (("low quality,", 1.0), (CRUDE_TOKENS, 0.7))
    assert_same(found, reference(pipeline, (positive,), (negative,)))


def test_a_word_that_does_not_fit_begins_the_next_chunk(
    generator: Generator, pipeline: diffusers.StableDiffusionXLPipeline
) -> None:
    """Three of the five vectors would fit into the chunk before."""
    found = ours(generator, body(f"{WORDS}crude, a lake", f"{WORDS}ink, a lake"))
    positive = ((WORDS, 1.0),), ((f"{CRUDE_TOKENS}, a lake", 1.0),)
    negative = ((f"{WORDS}{INK_TOKENS}", 1.0),), ((", a lake", 1.0),)
    assert_same(found, reference(pipeline, positive, negative))


def test_a_lora_brings_its_own_words(
    generator: Generator, pipeline: diffusers.StableDiffusionXLPipeline
) -> None:
    """Its weight is so small that the word alone shows."""
    lora = [{"id": "lit", "weight": 1e-6}]
    found = ours(generator, body("a photo of a glow apple", "blurry", loras=lora))
    assert_same(found, drawn_by_diffusers(pipeline, "a photo of a glow apple", "blurry"))
    without = ours(generator, body("a photo of a glow apple", "blurry"))
    assert_changed(found, without)


def test_prompts_without_words_are_as_before(generator: Generator, tiny_package: Path) -> None:
    plain = body("a photo of a red apple", "blurry")
    ours(generator, body("ink", "crude"))
    found, expected = ours(generator, plain), ours(generator_of(tiny_package, "tiny"), plain)
    np.testing.assert_array_equal(found[0], expected[0])


def test_what_is_kept_depends_on_the_vectors(generator: Generator, tmp_path: Path) -> None:
    """An unlike prompt in the same request keeps its conditioning; so does one that returns."""
    package = generator.model.package
    path = tmp_path / "wet.safetensors"

    def lookups(*arguments: str) -> tuple[int, int]:
        before = generator.conditioner.lookups
        generator.conditioning(generator.model.plan(generator.model.read(body(*arguments))))
        made = generator.conditioner.lookups.since(before)
        return made.hits, made.misses

    assert lookups("a wet apple", "a dry apple") == (0, 2)
    add_embedding(package, save(path, vectors(2, seed=3)), None)
    assert lookups("a wet apple", "a dry apple") == (1, 1)
    assert lookups("a wet apple", "a dry apple") == (2, 0)
    remove_embedding(package, "wet")
    assert lookups("a wet apple", "a dry apple") == (2, 0)
    add_embedding(package, save(path, vectors(2, seed=4)), None)
    assert lookups("a wet apple", "a dry apple") == (1, 1)


def test_vectors_that_were_damaged_since_fail_the_picture(
    generator: Generator, tmp_path: Path
) -> None:
    package = generator.model.package
    made = add_embedding(package, save(tmp_path / "torn.safetensors", vectors(1)), None)
    made.path.write_bytes(made.path.read_bytes()[:-4])
    with pytest.raises(PackageError, match=r"bytes, expected .* remove torn and add it again"):
        ours(generator, body("a torn apple", "blurry"))
    remove_embedding(package, "torn")
    found = ours(generator, body("a torn apple", "blurry"))
    assert np.isfinite(found[0]).all()
