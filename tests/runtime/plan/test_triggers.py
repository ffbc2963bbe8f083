"""Trigger words reach the prompt when they should, and only then."""

from pathlib import Path

import pytest

from runtime.package.pack import LoraPack, LoraSet, PackRecord, PackSource
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import LoraOffer, parameters_schema
from runtime.plan.request import GenerateRequest, read_request
from runtime.plan.text.weighting import Span, parse
from runtime.plan.triggers import with_triggers
from tests.tiny.manifests import MANIFEST


def record(identity: str, triggers: str) -> PackRecord:
    return PackRecord(identity, identity, triggers, 1.0, 0.5, PackSource("x", "0"), (), (), {})


RECORDS = [record("ink", "ink wash, sumi-e"), record("odd", r"smile :) (v2)"), record("none", "")]
PACKS = {each.id: LoraPack(each.id, Path(each.id), each) for each in RECORDS}


def asked(prompt: str, *choices: dict[str, object], weighted: bool = True) -> str:
    offers = [LoraOffer.of(each) for each in RECORDS]
    schema = parameters_schema(MANIFEST, Sdxl().facts(MANIFEST), offers)
    body = {"prompt": prompt, "loras": list(choices), "prompt_weighting": weighted}
    request: GenerateRequest = read_request(body, schema)
    acting: LoraSet = tuple((PACKS[c.id], c.weight) for c in request.loras if c.weight)
    return with_triggers(request, acting)


INK = {"id": "ink"}


@pytest.mark.parametrize(
    ("prompt", "choices", "expected"),
    [
        ("a cat", [INK], "a cat, (ink wash, sumi-e:0.5)"),
        ("", [INK], "(ink wash, sumi-e:0.5)"),
        ("a cat", [{**INK, "trigger_weight": 1.25}], "a cat, (ink wash, sumi-e:1.25)"),
        ("a cat", [{**INK, "trigger_weight": 0}], "a cat"),
        ("a cat", [{**INK, "weight": 0}], "a cat"),
        ("an Ink Wash of a cat", [INK], "an Ink Wash of a cat, (sumi-e:0.5)"),
        ("(ink wash:1.2), sumi-e", [INK], "(ink wash:1.2), sumi-e"),
        ("pink washing", [INK], "pink washing, (ink wash, sumi-e:0.5)"),
        ("a cat", [{"id": "none"}], "a cat"),
        ("a cat", [], "a cat"),
        (
            "a cat",
            [INK, {"id": "odd", "trigger_weight": 1}],
            r"a cat, (ink wash, sumi-e:0.5), (smile :\) \(v2\):1)",
        ),
        (r"a smile :\) \(v2\)", [{"id": "odd"}], r"a smile :\) \(v2\)"),
    ],
)
def test_missing_words_are_appended_with_their_emphasis(
    prompt: str, choices: list[dict[str, object]], expected: str
) -> None:
    assert asked(prompt, *choices) == expected


def test_the_emphasis_reads_back_as_it_was_meant() -> None:
    spans = parse(asked("a cat", {"id": "odd", "trigger_weight": 0.00002}))
    assert spans == (Span("a cat, ", 1.0), Span("smile :) (v2)", 0.00002))


def test_where_weights_do_not_act_the_words_stand_as_they_are() -> None:
    assert asked("a cat", INK, weighted=False) == "a cat, ink wash, sumi-e"
