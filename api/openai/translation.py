"""Body of OpenAI's `images.generate` as a body of `/api/generate`, and what else it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from api.errors import UnknownModel
from runtime.errors import Fault, RequestError
from runtime.plan.faults import schema_faults
from runtime.plan.model import Model
from runtime.plan.models import Models
from runtime.plan.request import text_faults

SIZE = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
_SIDES = ("width", "height")
_OWN_ALONE = frozenset({*_SIDES, "preview_every", "output_format"})
"""Fields of ours whose place another name has there."""
_IGNORED: Mapping[str, Any] = {
    "quality": {
        "enum": ["auto", "standard", "hd", "low", "medium", "high", "xhigh", "max", None],
        "description": "Ignored: `steps` says how much work a picture is.",
    },
    "style": {"enum": ["vivid", "natural", None], "description": "Ignored."},
    "moderation": {"enum": ["low", "auto", None], "description": "Ignored: nothing is filtered."},
    "user": {"type": ["string", "null"], "description": "Ignored."},
    "safety_identifier": {"type": ["string", "null"], "description": "Ignored."},
}


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """A checked body: the same in our words, and how its pictures are to be answered."""

    body: Mapping[str, Any]
    with_content: bool
    with_url: bool
    stream: bool
    partial_images: int


def images_schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the dialect's body, from that of ours with `n`."""
    ours = parameters["properties"]
    own = {name: rule for name, rule in ours.items() if name not in _OWN_ALONE}
    return {
        "title": "Images of OpenAI's API",
        "type": "object",
        "required": ["prompt"],
        "additionalProperties": False,
        "properties": {
            **own,
            "n": {**ours["n"], "type": ["integer", "null"]},
            "model": {"type": ["string", "null"], "description": "A model that is served."},
            "size": {
                "type": ["string", "null"],
                "pattern": SIZE,
                "description": "WIDTHxHEIGHT in pixels; auto: the model's own.",
            },
            "response_format": {
                "enum": ["b64_json", "url", None],
                "description": "The pictures themselves, or their addresses; both by default.",
            },
            "output_format": {
                "enum": [*ours["output_format"]["enum"], None],
                "description": "The pictures' file format; partial images are JPEGs.",
            },
            "output_compression": {
                "enum": [100, None],
                "description": "Files have one quality.",
            },
            "background": {"enum": ["opaque", "auto", None]},
            "stream": {"type": ["boolean", "null"], "description": "Answer with events."},
            "partial_images": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 3,
                "description": "Pictures in the making that a stream shows; ignored elsewhere.",
            },
            **_IGNORED,
        },
    }


def read_images(body: object, parameters: Mapping[str, Any]) -> ImagesRequest:
    """The request in a parsed body, by the parameters of the model that it names.

    Raises RequestError with every fault.
    """
    faults = list(chain(schema_faults(body, images_schema(parameters)), text_faults(body)))
    if faults or not isinstance(body, Mapping):
        raise RequestError.of(faults)
    # Null is there what a field has that was left out; of ours it is the seed and others.
    sent = {name: value for name, value in body.items() if value is not None}
    stream, form = sent.get("stream", False), sent.get("response_format")
    if stream and form == "url":
        raise RequestError("/response_format", "a stream holds the pictures themselves: b64_json")
    taken = {*parameters["properties"]} - _OWN_ALONE | {"output_format"}
    ours = {name: value for name, value in sent.items() if name in taken}
    if (size := sent.get("size", "auto")) != "auto":
        ours |= zip(_SIDES, map(int, size.split("x")), strict=True)
    return ImagesRequest(
        body={**ours, "preview_every": 0},
        # Of an answer that it did not choose, LangChain reads the address, others the picture.
        with_content=form != "url",
        with_url=form != "b64_json",
        stream=stream,
        partial_images=int(sent.get("partial_images", 0)) if stream else 0,
    )


def model_of(body: object, models: Models) -> Model:
    """The model that a parsed body names, or the default. Raises UnknownModel."""
    name = body.get("model") if isinstance(body, Mapping) else None
    return named_model(name, models) if isinstance(name, str) else models.default


def named_model(name: str, models: Models) -> Model:
    """The model of this name. Raises UnknownModel."""
    try:
        return models.named(name)
    except RequestError as error:
        raise UnknownModel.of(error.faults) from error


def in_their_words(error: RequestError) -> RequestError:
    """The same faults with the names that the dialect has for these fields."""
    renamed = {f"/{side}": "/size" for side in _SIDES}
    faults = [
        Fault(renamed.get(fault.pointer, fault.pointer), f"{fault.pointer[1:]}: {fault.detail}")
        if fault.pointer in renamed
        else fault
        for fault in error.faults
    ]
    return RequestError.of(faults)
