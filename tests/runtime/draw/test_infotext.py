"""The web UI's text says what was drawn, with which model and which LoRAs."""

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.draw.infotext import infotext
from runtime.package.file_record import FileRecord
from runtime.package.inversion import Inversion, Row, Word
from runtime.package.manifest import Source
from runtime.package.pack import LoraPack, LoraSet, PackRecord, PackSource
from runtime.plan.families.chroma import Chroma
from runtime.plan.families.family import Facts, Prompt
from runtime.plan.families.flux import Flux
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import LoraOffer, parameters_schema
from runtime.plan.request import GenerateRequest, read_request
from tests.runtime.draw.plans import paper_plan
from tests.runtime.draw.recipe_readers import (
    civitai_parameters,
    web_ui_attention,
    web_ui_networks,
    web_ui_parameters,
)
from tests.tiny.manifests import MANIFEST

FACTS = Sdxl().facts(MANIFEST)
SHA256 = "0123456789abcdef" * 4


def _pack(identity: str, triggers: str) -> LoraPack:
    source = PackSource(f"{identity}.safetensors", SHA256)
    return LoraPack(
        "d", Path(), PackRecord(identity, identity, triggers, 1, 0.5, source, (), (), {})
    )


INK, OIL = _pack("ink", "ink (style), line art"), _pack("oil.2", "")


def _request(body: dict[str, object]) -> GenerateRequest:
    offers = [LoraOffer.of(pack.record) for pack in (INK, OIL)]
    return read_request({"seed": 1, **body}, parameters_schema(MANIFEST, FACTS, offers))


def _read(body: dict[str, object], loras: LoraSet = (), facts: Facts = FACTS) -> dict[str, str]:
    return web_ui_parameters(infotext(paper_plan(_request(body), loras), MANIFEST, facts).text())


def test_the_prompt_holds_its_trigger_words_with_their_emphasis() -> None:
    body = {"prompt": "a cat", "loras": [{"id": "ink", "trigger_weight": 0.7}]}
    prompt, networks = web_ui_networks(_read(body, ((INK, 0.25),))["Prompt"])
    assert networks == [("lora", "ink:0.25")]
    assert [(text, weight) for text, weight in web_ui_attention(prompt) if weight == 0.7] == [
        (text, 0.7) for text in ("ink ", "(", "style", ")", ", line art")
    ]


def test_trigger_words_of_an_unweighted_prompt_are_text() -> None:
    body = {"prompt": "a (cat)", "prompt_weighting": False, "loras": [{"id": "ink"}]}
    prompt, _ = web_ui_networks(_read(body, ((INK, 1.0),))["Prompt"])
    assert {weight for _, weight in web_ui_attention(prompt)} == {1.0}
    text = "".join(text for text, _ in web_ui_attention(prompt))
    assert text.strip() == "a (cat), ink (style), line art"


def test_loras_are_named_with_their_hashes() -> None:
    request = _request({"prompt": "a cat", "loras": [{"id": "ink"}, {"id": "oil.2"}]})
    text = infotext(paper_plan(request, ((INK, 1.0), (OIL, 1e-5))), MANIFEST, FACTS).text()
    assert web_ui_parameters(text)["Lora hashes"] == "ink: 0123456789, oil.2: 0123456789"
    read = civitai_parameters(text)
    assert read["Lora hashes"] == {"ink": "0123456789", "oil.2": "0123456789"}
    assert read["networks"] == [("lora", "ink", "1"), ("lora", "oil.2", "0.00001")]


def test_an_embedding_is_named_as_the_web_ui_names_it() -> None:
    plan = paper_plan(
        _request({"prompt": "embedding:neg.pt, (embedding:NEG:1.2), embedding:other"})
    )
    word = Word("neg", 1, {})
    neg = Inversion("neg", 1, "d", word, Path(), FileRecord("0", 1))
    plan = replace(plan, prompts=(Prompt((), rows=(Row("text_encoder", 5, neg, 0),)),))
    prompt = web_ui_parameters(infotext(plan, MANIFEST, FACTS).text())["Prompt"]
    assert prompt == "neg, (NEG:1.2), embedding:other"


def test_a_lora_that_does_not_act_is_not_named() -> None:
    read = _read({"prompt": "a cat", "loras": [{"id": "ink", "weight": 0}]})
    assert "ink" not in read["Prompt"]
    assert "Lora hashes" not in read


def test_a_model_whose_file_is_known_has_its_hash() -> None:
    manifest = replace(MANIFEST, source=Source("civitai", "civitai:1", "1", SHA256))
    plan = paper_plan(_request({"prompt": "a cat"}))
    assert web_ui_parameters(infotext(plan, manifest, FACTS).text())["Model hash"] == "0123456789"


@pytest.mark.parametrize(("body", "skip"), [({}, None), ({"clip_skip": 1}, "3")])
def test_clip_skip_counts_as_the_web_ui_does(body: dict[str, object], skip: str | None) -> None:
    assert _read({"prompt": "", **body}).get("Clip skip") == skip


def test_guidance_that_a_model_is_told_is_no_second_evaluation() -> None:
    manifest = replace(MANIFEST, family_options={"guidance_embeds": True})
    facts = Flux().facts(manifest)
    read = _read({"prompt": "", "cfg_scale": 3.5}, facts=facts)
    assert (read["CFG scale"], read["Distilled CFG Scale"]) == ("1", "3.5")
    assert read["Schedule type"] == "Simple"


def test_guidance_of_two_evaluations_is_the_web_uis() -> None:
    manifest = replace(MANIFEST, family_options={"guidance_baked_in": False})
    read = _read({"prompt": "", "cfg_scale": 3.5}, facts=Chroma().facts(manifest))
    assert read["CFG scale"] == "3.5"
    assert "Distilled CFG Scale" not in read


@pytest.mark.parametrize("units", range(60, 130, 7))
def test_a_shortened_text_is_no_longer_than_asked_and_keeps_its_settings(units: int) -> None:
    text = infotext(
        paper_plan(_request({"prompt": "𝄞" * 40, "negative_prompt": "x"})), MANIFEST, FACTS
    )
    text = replace(text, settings="Steps: 1, Seed: 2, Size: 8x8")
    short = text.shortened(units)
    assert short is not None
    assert len(short.encode("utf-16-be")) <= 2 * units
    read = web_ui_parameters(short)
    assert read["Seed"] == "2"
    assert text.prompt.startswith(read["Prompt"])


def test_a_text_whose_settings_are_too_long_is_none() -> None:
    text = infotext(paper_plan(_request({"prompt": "a"})), MANIFEST, FACTS)
    assert text.shortened(20) is None
