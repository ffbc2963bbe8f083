"""Body of AUTOMATIC1111's txt2img: its meaning as a request of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.a1111.body import LAST_LAYERS, PENULTIMATE, body_faults, body_schema
from api.a1111.checkpoint import Checkpoint
from api.a1111.loras import take_loras
from api.a1111.names import Names
from runtime.errors import Fault, RequestError
from runtime.package.manifest import Defaults
from runtime.plan.families.family import Guidance
from runtime.plan.model import Model
from runtime.plan.order import MAX_PICTURES
from runtime.plan.request import text_faults
from runtime.plan.sampling.titles import SAMPLER_TITLES

_ETA = {"ddim": 0.0, "euler_a": 1.0, "dpm++_2m_sde": 1.0, "dpm++_sde": 1.0}
"""The share of new noise in each step, of samplers that there have a choice of it."""

_POINTERS = {
    "/sampler": "/sampler_name",
    "/schedule": "/scheduler",
    "/loras": "/prompt",
    "/clip_skip": f"/override_settings/{LAST_LAYERS}",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The meaning of a body."""

    order: Mapping[str, Any]
    """A body of `/api/generate`."""
    send_images: bool


@dataclass(frozen=True, slots=True)
class Txt2Img:
    """The endpoint's body for one model."""

    names: Names
    guidance: Guidance
    defaults: Defaults
    schema: Mapping[str, Any]

    @classmethod
    def of(cls, model: Model, checkpoints: Sequence[Checkpoint] = ()) -> "Txt2Img":
        """The body for a model, which may name any of the `checkpoints`; for none, the model's."""
        names = Names.of(model)
        schema = body_schema(model, names, checkpoints or [Checkpoint.of(model)])
        return cls(names, model.facts.guidance, model.manifest.defaults, schema)

    def read(self, body: object) -> Wanted:
        """The meaning of a parsed body. Raises RequestError, with every fault of its fields."""
        # The answer repeats the body, fields that are ignored included.
        faults = [*body_faults(body, self.schema), *text_faults(body)]
        if faults or not isinstance(body, Mapping):
            raise RequestError.of(faults)
        given = {name: value for name, value in body.items() if value is not None}
        pictures = int(given.get("n_iter", 1)) * int(given.get("batch_size", 1))
        if pictures > MAX_PICTURES:
            detail = f"n_iter * batch_size is {pictures}; a request is {MAX_PICTURES} at most"
            raise RequestError("/batch_size", detail)
        return Wanted({**self._request(given), "n": pictures}, given.get("send_images", True))

    def check_settings(self, body: object) -> None:
        """Raises RequestError for settings that are not so already."""
        faults = body_faults(body, self.settings)
        if faults:
            raise RequestError.of(faults)

    @property
    def settings(self) -> Mapping[str, Any]:
        """JSON Schema of the settings that this server has, as a body of its own."""
        rule: Mapping[str, Any] = self.schema["properties"]["override_settings"]
        of_requests = "a request sets it, in its override_settings; the server keeps 1"
        layers = {"enum": [1, PENULTIMATE, None], "x-refusal": of_requests}
        properties = {**rule["properties"], LAST_LAYERS: layers}
        return {**rule, "type": "object", "title": "Settings", "properties": properties}

    def _request(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        taken = take_loras(given.get("prompt", ""))
        request: dict[str, Any] = {
            "prompt": taken.prompt,
            **({"loras": list(taken.loras)} if taken.loras else {}),
            **{name: given[name] for name in ("width", "height", "steps") if name in given},
            **self._guidance(given),
            **self._sampling(given),
            **_layers(given),
        }
        if "negative_prompt" in given:
            request["negative_prompt"] = given["negative_prompt"] or None
        if given.get("seed", -1) >= 0:
            request["seed"] = int(given["seed"])
        return request

    def _guidance(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Guidance. A model that is told its guidance has it in a field of Forge's, where
        cfg_scale is 1 then."""
        if self.guidance is Guidance.NONE:
            return {}
        name = "distilled_cfg_scale"
        if self.guidance is not Guidance.DISTILLED or name not in given:
            name = "cfg_scale"
        return {"cfg_scale": given[name]} if name in given else {}

    def _sampling(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        title = given.get("sampler_name") or given.get("sampler_index")
        name = title or SAMPLER_TITLES[self.defaults.sampler]
        steps = int(given.get("steps", self.defaults.steps))
        sampler, schedule = self.names.read(name, given.get("scheduler", ""), steps)
        eta, fixed = given.get("eta"), _ETA.get(sampler)
        if None not in {eta, fixed} and eta != fixed:
            detail = f"{eta} is not served with {name}, whose eta is {fixed:g}; give that"
            raise RequestError("/eta", detail)
        return {"sampler": sampler} | ({} if schedule is None else {"schedule": schedule})


def as_theirs(error: RequestError) -> RequestError:
    """The faults of `/api/generate` by the names of AUTOMATIC1111's fields."""
    faults = [Fault(_their_pointer(fault.pointer), fault.detail) for fault in error.faults]
    return RequestError.of(faults)


def _their_pointer(pointer: str) -> str:
    field = "/" + pointer.removeprefix("/").partition("/")[0]
    return _POINTERS.get(field, pointer)


def _layers(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The layers of the text encoder. SD.Next has a field for them beside the setting."""
    named = given.get("override_settings", {}).get(LAST_LAYERS)
    other = given.get("clip_skip")
    if None not in {named, other} and named != other:
        detail = f"{other}, while {LAST_LAYERS} is {named}; give one of them"
        raise RequestError("/clip_skip", detail)
    layers = other if named is None else named
    return {} if layers is None else {"clip_skip": max(0, int(layers) - PENULTIMATE)}
