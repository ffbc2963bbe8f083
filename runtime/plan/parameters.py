"""The JSON Schema of a generation request, as the loaded model takes it.

One schema is what the command line checks, what the API checks, what `/api/info` and the OpenAPI
document state. It follows from the package's manifest and the family's facts; a field that the
model cannot honour stays in it, allows only its empty value, and says why (`x-refusal`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from runtime.package.manifest import Manifest
from runtime.package.pack import PackRecord
from runtime.plan.families.family import Facts, Guidance
from runtime.plan.request import MAX_SEED

MAX_PROMPT = 10_000
MAX_STEPS = 100
MAX_CFG_SCALE = 30


@dataclass(frozen=True, slots=True)
class LoraOffer:
    """A LoRA pack that a request may name, with its own defaults."""

    id: str
    name: str
    triggers: str
    weight: float
    trigger_weight: float

    @classmethod
    def of(cls, record: PackRecord) -> Self:
        """A pack's offer."""
        return cls(record.id, record.name, record.triggers, record.weight, record.trigger_weight)


def parameters_schema(
    manifest: Manifest, facts: Facts, loras: Sequence[LoraOffer] = ()
) -> dict[str, Any]:
    """JSON Schema 2020-12 of the body of `/api/generate` for this model."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Generation request for {manifest.name}",
        "type": "object",
        "required": ["prompt"],
        "additionalProperties": False,
        "properties": {
            "prompt": {
                "type": "string",
                "maxLength": MAX_PROMPT,
                "description": "What the picture shows.",
            },
            "negative_prompt": _negative_prompt(manifest, facts),
            "width": _size(manifest, manifest.defaults.width, "Width"),
            "height": _size(manifest, manifest.defaults.height, "Height"),
            "seed": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": MAX_SEED,
                "default": None,
                "description": "Gives the same picture again; null draws one and reports it.",
            },
            "loras": _loras(facts, loras),
            "steps": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_STEPS,
                "default": manifest.defaults.steps,
                "description": "Steps of the scheduler.",
            },
            "cfg_scale": _cfg_scale(manifest, facts),
            "sampler": {
                "type": "string",
                "enum": list(facts.samplers),
                "default": manifest.defaults.sampler,
                "description": "How the noise is taken away.",
            },
            "schedule": {
                "type": "string",
                "enum": list(facts.schedules),
                "default": manifest.defaults.schedule,
                "description": "How the noise levels are spaced.",
            },
            "clip_skip": _clip_skip(manifest, facts),
            "guidance_rescale": _guidance_rescale(facts),
            "guidance_interval": _guidance_interval(facts),
            "prompt_weighting": {
                "type": "boolean",
                "default": facts.weighted_by_default,
                "description": "Whether (word:1.2) and [word] change a word's emphasis.",
            },
            "output_format": {
                "type": "string",
                "enum": ["png", "webp", "jpeg"],
                "default": "png",
                "description": "The picture's file format.",
            },
            "preview_every": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_STEPS,
                "default": 1,
                "description": "A preview every so many steps; 0 for none.",
            },
            "priority": {
                "type": "string",
                "enum": ["interactive", "batch"],
                "default": "interactive",
                "description": "Batch jobs wait for interactive ones.",
            },
            "model": {
                "type": "string",
                "enum": [manifest.name],
                "default": manifest.name,
                "description": "The model that draws.",
            },
        },
    }


def _negative_prompt(manifest: Manifest, facts: Facts) -> dict[str, Any]:
    rule = {"type": ["string", "null"], "default": manifest.defaults.negative_prompt}
    if not facts.negative_prompt:
        return _unsupported(facts, rule, maxLength=0)
    return {
        **rule,
        "maxLength": MAX_PROMPT,
        "description": "What the picture must not show. Null is none, as the model was trained.",
    }


def _size(manifest: Manifest, default: int, what: str) -> dict[str, Any]:
    return {
        "type": "integer",
        "minimum": manifest.limits.min_size,
        "maximum": manifest.limits.max_size,
        "multipleOf": manifest.limits.multiple_of,
        "default": default,
        "description": f"{what} in pixels.",
    }


def _loras(facts: Facts, loras: Sequence[LoraOffer]) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "type": "array",
        "default": [],
        "items": {
            "type": "object",
            "required": ["id"],
            "properties": {"id": {"type": "string"}},
            "oneOf": [_lora(offer) for offer in loras],
        },
    }
    if not facts.loras:
        return _unsupported(facts, {**rule, "items": {"type": "object"}}, maxItems=0)
    if not loras:
        refusal = "this model has no LoRA packs; see /api/info for what it has"
        return {**rule, "items": {"type": "object"}, "maxItems": 0, "x-refusal": refusal}
    return {**rule, "description": "LoRA packs, each with its weight."}


def _lora(offer: LoraOffer) -> dict[str, Any]:
    return {
        "type": "object",
        "title": offer.name,
        "required": ["id"],
        "additionalProperties": False,
        "properties": {
            "id": {"const": offer.id},
            "weight": {
                "type": "number",
                "minimum": -2,
                "maximum": 2,
                "default": offer.weight,
            },
            "trigger_weight": {
                "type": "number",
                "minimum": 0,
                "maximum": 2,
                "default": offer.trigger_weight,
            },
        },
    }


def _cfg_scale(manifest: Manifest, facts: Facts) -> dict[str, Any]:
    if facts.guidance is Guidance.NONE:
        return _unsupported(facts, {"type": "null", "default": None})
    return {
        "type": "number",
        "minimum": 1,
        "maximum": MAX_CFG_SCALE,
        "default": manifest.defaults.cfg_scale,
        "description": "How strongly the prompt is followed; 1 is no guidance.",
    }


def _clip_skip(manifest: Manifest, facts: Facts) -> dict[str, Any]:
    rule = {"type": "integer", "default": 0, "minimum": 0}
    if not facts.clip_skip:
        return _unsupported(facts, rule, maximum=0)
    return {
        **rule,
        "maximum": manifest.limits.max_clip_skip,
        "description": "How many more of the text encoders' last layers are left out.",
    }


def _guidance_rescale(facts: Facts) -> dict[str, Any]:
    rule = {"type": "number", "default": 0, "minimum": 0}
    if facts.guidance is not Guidance.CLASSIFIER_FREE:
        return _unsupported(facts, rule, maximum=0)
    return {**rule, "maximum": 1, "description": "Keeps strong guidance from overexposing."}


def _guidance_interval(facts: Facts) -> dict[str, Any]:
    if facts.guidance is not Guidance.CLASSIFIER_FREE:
        return _unsupported(facts, {"type": "null", "default": None})
    return {
        "type": ["array", "null"],
        "items": {"type": "number", "minimum": 0, "maximum": 1},
        "minItems": 2,
        "maxItems": 2,
        "default": None,
        "description": "The share of the steps, from and to, in which guidance acts.",
    }


def _unsupported(facts: Facts, rule: dict[str, Any], **empty: int) -> dict[str, Any]:
    refusal = f"{facts.title} models cannot honour this field; leave it out"
    return {**rule, **empty, "x-refusal": refusal, "description": f"Not on {facts.title} models."}
