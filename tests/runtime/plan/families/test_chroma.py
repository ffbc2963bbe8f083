"""Chroma: the pictures of diffusers' pipeline, and what the family refuses."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.tiny.flow_models import T5_TOKENS
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import Engine
from runtime.draw.generate import Generator
from runtime.errors import RequestError
from runtime.package.manifest import ModelPackage, load_package, write_manifest
from runtime.plan.model import Model, open_model
from tests.parity import (
    assert_changed,
    assert_refused,
    assert_same,
    assert_same_in_company,
    generator_of,
    ours,
)
from tests.runtime.plan.families.packed import (
    SIZES,
    WEIGHTED,
    Spans,
    assert_embedded,
    assert_weighs_on_request,
    body_of,
    emphasised,
    pipeline_of,
    reference,
    token_weights,
)


@pytest.fixture(scope="module")
def generator(tiny_chroma_package: Path) -> Generator:
    return generator_of(tiny_chroma_package, "tiny_chroma")


@pytest.fixture(scope="module")
def flash(tiny_chroma_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """The same networks as a package whose guidance is baked in."""
    engines = tmp_path_factory.mktemp("flash")
    folder = shutil.copytree(tiny_chroma_package / "tiny_chroma", engines / "flash")
    manifest = load_package(tiny_chroma_package, "tiny_chroma").manifest
    defaults = replace(manifest.defaults, cfg_scale=None, steps=4)
    options = {"guidance_baked_in": True}
    write_manifest(
        folder, replace(manifest, name="flash", defaults=defaults, family_options=options)
    )
    return generator_of(engines, "flash")


def expected(source: Path, body: dict[str, Any]) -> Any:
    options = {
        "negative_prompt": body.get("negative_prompt"),
        "guidance_scale": body.get("cfg_scale", 1.0),
        "max_sequence_length": T5_TOKENS,
    }
    return reference(source, body, options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("steps", "cfg_scale"), [(1, 4.0), (4, 1.0), (6, 4.0)])
def test_same_latents_and_pixels_as_diffusers(
    tiny_chroma_source: Path,
    generator: Generator,
    size: tuple[int, int],
    steps: int,
    cfg_scale: float,
) -> None:
    body = {
        **body_of(size=size, steps=steps),
        "cfg_scale": cfg_scale,
        "negative_prompt": "low quality, blurry",
    }
    assert_same(ours(generator, body), expected(tiny_chroma_source, body))


@pytest.mark.parametrize(
    "fields",
    [
        {"negative_prompt": None},
        {"negative_prompt": ""},
        {"prompt": ""},
        {"prompt": "the </s> end and <pad> stand in the text"},
        {"prompt": "(weights:1.5) [stay] text, BREAK too", "negative_prompt": "(as:0.5) here"},
        {"prompt": " ".join(["a"] * (T5_TOKENS - 2)), "negative_prompt": "blurry"},
        {"prompt": " ".join(["a"] * (T5_TOKENS - 1)), "negative_prompt": "blurry"},
    ],
)
def test_same_in_the_corners(
    tiny_chroma_source: Path, generator: Generator, fields: dict[str, Any]
) -> None:
    """Among them prompts that leave one padding token, and none."""
    body = {**body_of(), "cfg_scale": 4.0, **fields}
    assert_same(ours(generator, body), expected(tiny_chroma_source, body))


def weighted_embeddings(source: Path, spans: Spans) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states `[1, L, D]` and their mask `[1, L]`, as the pipeline takes them."""
    pipeline: Any = pipeline_of(source)
    text, weights = token_weights(pipeline.tokenizer, spans)
    with torch.no_grad():
        states, _, mask, *_ = pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=T5_TOKENS
        )
    return emphasised(states[0], weights)[None], mask


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_the_weights_of_both_prompts_act_as_published(
    tiny_chroma_source: Path, generator: Generator, first: int, second: int
) -> None:
    (prompt, spans), (negative, negative_spans) = WEIGHTED[first], WEIGHTED[second]
    states, mask = weighted_embeddings(tiny_chroma_source, spans)
    negative_states, negative_mask = weighted_embeddings(tiny_chroma_source, negative_spans)
    options = {
        "prompt": None,
        "prompt_embeds": states,
        "prompt_attention_mask": mask,
        "negative_prompt_embeds": negative_states,
        "negative_prompt_attention_mask": negative_mask,
        "guidance_scale": 4.0,
    }
    body = {**body_of(prompt), "negative_prompt": negative, "prompt_weighting": True}
    expected = [states[0], negative_states[0]]
    assert_embedded(generator, body, "encoder_hidden_states", expected)
    assert_same(ours(generator, body), reference(tiny_chroma_source, body, options))


def test_weights_act_on_request(generator: Generator, flash: Generator) -> None:
    for each in (generator, flash):
        assert_weighs_on_request(each)


def test_flash_draws_what_diffusers_draws_without_guidance(
    tiny_chroma_source: Path, flash: Generator
) -> None:
    body = body_of(size=SIZES[1])
    assert_same(ours(flash, body), expected(tiny_chroma_source, body))


class Counting(OnnxRuntimeCpu):
    """The CPU's backend, with the inputs of every call."""

    def __init__(self, package: ModelPackage) -> None:
        super().__init__(package)
        self.calls: dict[str, list[Mapping[str, np.ndarray]]] = {}

    def open(self, role: str) -> Engine:
        engine: Any = super().open(role)
        run, self.calls[role] = engine.run, []

        def counted(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.calls[role].append(inputs)
            found: dict[str, np.ndarray] = run(inputs)
            return found

        engine.run = counted
        opened: Engine = engine
        return opened


@pytest.mark.parametrize(
    ("name", "fields", "evaluations"),
    [("flash", {}, 1), ("guided", {"cfg_scale": 1.0}, 1), ("guided", {"cfg_scale": 4.0}, 2)],
)
def test_flash_evaluates_once_a_step_and_encodes_one_prompt(
    flash: Generator, generator: Generator, name: str, fields: dict[str, Any], evaluations: int
) -> None:
    model = {"flash": flash, "guided": generator}[name].model
    backend = Counting(model.package)
    ours(Generator(model, backend), {**body_of(steps=3), **fields})
    assert len(backend.calls["text_encoder"]) == evaluations
    called = [inputs["text_mask"].shape[0] for inputs in backend.calls["denoiser"]]
    assert called == [evaluations] * 3


@pytest.mark.parametrize(
    "change",
    [{"prompt": "two small cats"}, {"cfg_scale": 8.0}, {"negative_prompt": "a red apple"}],
)
def test_prompts_and_guidance_change_the_picture(
    generator: Generator, change: dict[str, Any]
) -> None:
    assert_changed(ours(generator, body_of()), ours(generator, {**body_of(), **change}))


def test_samples_have_the_same_bits_alone_and_in_company(generator: Generator) -> None:
    bodies = [
        {**body_of("a red apple", steps=8), "seed": 1, "cfg_scale": 4.0},
        {**body_of("two small cats", steps=5), "seed": 2, "cfg_scale": 1.0},
        {**body_of("", steps=3), "seed": 3, "guidance_interval": [0.5, 1]},
    ]
    assert_same_in_company(generator, bodies)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_prompt_that_is_too_long_is_refused(generator: Generator, field: str) -> None:
    body = {**body_of(), field: " ".join(["a"] * (T5_TOKENS + 1))}
    with pytest.raises(RequestError) as refusal:
        generator.model.plan(generator.model.read(body))
    (fault,) = refusal.value.faults
    assert fault.pointer == f"/{field}"
    assert fault.detail == "65 tokens, but this model reads at most 63; shorten it by 2"


REFUSALS = [
    ({"loras": [{"id": "style"}]}, "/loras", "cannot honour this field"),
    ({"clip_skip": 1}, "/clip_skip", "cannot honour this field"),
    ({"sampler": "euler_a"}, "/sampler", "is not one of euler"),
    ({"schedule": "karras"}, "/schedule", "is not one of default"),
    ({"width": 72}, "/width", "is no multiple of 16"),
]


@pytest.mark.parametrize(("fields", "pointer", "detail"), REFUSALS)
def test_what_it_cannot_do_is_refused_by_name(
    generator: Generator, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    assert_refused(generator.model, fields, pointer, detail)


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        *REFUSALS,
        ({"cfg_scale": 4.0}, "/cfg_scale", "Chroma flash models cannot honour this field"),
        ({"negative_prompt": "blurry"}, "/negative_prompt", "Chroma flash models cannot honour"),
        ({"guidance_rescale": 0.5}, "/guidance_rescale", "Chroma flash models cannot honour"),
    ],
)
def test_flash_refuses_guidance_too(
    flash: Generator, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    assert_refused(flash.model, fields, pointer, detail)


def test_its_own_defaults(tiny_chroma_package: Path) -> None:
    model: Model = open_model(tiny_chroma_package, "tiny_chroma")
    request = model.read({"prompt": ""})
    assert (request.steps, request.cfg_scale, request.sampler) == (20, 4.0, "euler")
