"""JSON Schema of txt2img's body for the loaded model, and the faults of a body by it.

It takes the limits of `/api/generate` over, so that a body that it takes is one there too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from api.a1111.checkpoint import CHECKPOINT, Checkpoint, checkpoint_rule
from api.a1111.names import AUTOMATIC, Names
from api.a1111.neutral import neutral_fields, neutral_settings
from runtime.errors import Fault
from runtime.plan.families.family import Guidance
from runtime.plan.faults import pointer_to, schema_faults
from runtime.plan.model import Model
from runtime.plan.order import MAX_PICTURES

LAST_LAYERS = "CLIP_stop_at_last_layers"
PENULTIMATE = 2
"""SDXL was trained on the last layer but one: there 1 and 2 give it, and here it is 0."""


def body_schema(model: Model, names: Names, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """The schema for a model, where a request may name any of the `checkpoints`."""
    return _schema(model.parameters(()), names, checkpoints, model.facts.guidance)


def body_faults(body: object, schema: Mapping[str, Any]) -> list[Fault]:
    """Every fault of a body. The schema's own words for an unknown field would list the hundred
    that there are."""
    return [*_unknown(body, schema), *schema_faults(_known(body, schema), schema)]


def _known(value: object, schema: Mapping[str, Any]) -> object:
    """The value without what its object schema, and those within, do not name."""
    if not isinstance(value, Mapping) or schema.get("additionalProperties") is not False:
        return value
    rules = schema["properties"]
    return {name: _known(each, rules[name]) for name, each in value.items() if name in rules}


def _unknown(
    value: object, schema: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[Fault]:
    if not isinstance(value, Mapping) or schema.get("additionalProperties") is not False:
        return
    for name, each in value.items():
        rule = schema["properties"].get(name)
        if rule is None:
            yield Fault(pointer_to([*path, name]), "is not known here; leave it out")
        else:
            yield from _unknown(each, rule, (*path, name))


def _schema(
    parameters: Mapping[str, Any],
    names: Names,
    checkpoints: Sequence[Checkpoint],
    guidance: Guidance,
) -> dict[str, Any]:
    ours: Mapping[str, Any] = parameters["properties"]
    pictures = {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_PICTURES}
    return {
        "title": "Request of txt2img",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "prompt": ours["prompt"],
            "negative_prompt": _unless_null(ours["negative_prompt"]),
            "seed": {**_unless_null(ours["seed"]), "minimum": -1},
            "width": _unless_null(ours["width"]),
            "height": _unless_null(ours["height"]),
            "steps": _unless_null(ours["steps"]),
            **_scales(ours["cfg_scale"], guidance),
            "sampler_name": _named(names.every_sampler, "sampler", names.samplers.values()),
            "sampler_index": _named(names.every_sampler, "sampler", names.samplers.values()),
            "scheduler": _named(names.every_schedule, "schedule", (AUTOMATIC, *names.schedules)),
            "n_iter": pictures,
            "batch_size": pictures,
            "eta": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "clip_skip": _layers_rule(ours["clip_skip"]),
            "send_images": {"type": ["boolean", "null"]},
            "override_settings": {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {
                    CHECKPOINT: checkpoint_rule(checkpoints),
                    LAST_LAYERS: _layers_rule(ours["clip_skip"]),
                    **neutral_settings(),
                },
            },
            **neutral_fields(),
        },
    }


def _named(names: Iterable[str], what: str, titles: Iterable[str]) -> dict[str, Any]:
    refusal = f"no {what} of this model, which has {', '.join(titles)}"
    return {"enum": [*names, "", None], "x-refusal": refusal}


def _unless_null(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The rule of a field that may also be null, which stands for the model's own value."""
    types = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    plain = {name: value for name, value in rule.items() if name != "default"}
    return {**plain, "type": list(dict.fromkeys([*types, "null"]))}


def _scales(cfg_scale: Mapping[str, Any], guidance: Guidance) -> dict[str, Any]:
    none = {"enum": [0, 1, None], "x-refusal": "this model has no guidance; give 1"}
    if guidance is Guidance.NONE:
        return {"cfg_scale": none, "distilled_cfg_scale": {"description": "Ignored."}}
    rule = _unless_null(cfg_scale)
    if guidance is Guidance.DISTILLED:
        return {"cfg_scale": rule, "distilled_cfg_scale": rule}
    return {"cfg_scale": rule, "distilled_cfg_scale": {"description": "Ignored."}}


def _layers_rule(clip_skip: Mapping[str, Any]) -> dict[str, Any]:
    most = clip_skip["maximum"] + PENULTIMATE
    refusal = {"x-refusal": clip_skip["x-refusal"]} if "x-refusal" in clip_skip else {}
    return {"type": ["integer", "null"], "minimum": 1, "maximum": most, **refusal}
