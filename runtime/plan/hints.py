"""Hints for what users of other tools write: their names of fields and values, by ours.

The names are those of AUTOMATIC1111's web UI (modules/api/models.py, sd_samplers_kdiffusion.py,
sd_schedulers.py), of ComfyUI (comfy/samplers.py), and of diffusers' pipelines and schedulers. They
are compared without case, spaces and punctuation. A hint is a piece of a sentence or empty; nothing
here is taken in another's place.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

_FIELDS: Mapping[str, str] = {
    "prompt": "positive positiveprompt text caption",
    "negative_prompt": "negative neg negprompt uc undesiredcontent",
    "width": "w imagewidth",
    "height": "h imageheight",
    "seed": "noiseseed randomseed",
    "loras": "lora lorasettings lycoris",
    "steps": "numinferencesteps inferencesteps samplingsteps numsteps ddimsteps samplersteps",
    "cfg_scale": "cfg guidance guidancescale unconditionalguidancescale distilledcfgscale",
    "sampler": "samplername samplerindex samplerid samplingmethod",
    "schedule": "scheduler schedulername scheduletype noiseschedule",
    "clip_skip": "clipstopatlastlayers",
    "guidance_rescale": "cfgrescale cfgrescalephi rescalecfg",
    "n": "niter batchsize batchcount numimages numimagesperprompt numoutputs samples",
    "model": "sdmodelcheckpoint checkpoint ckptname modelname sdmodel",
    "output_format": "format imageformat filetype samplesformat",
    "id": "name lora loraname model modelname file filename path",
    "weight": "strength scale multiplier modelstrength strengthmodel unetweight",
    "trigger_weight": "triggerstrength",
}

_ELSEWHERE: Mapping[str, str] = {
    "a request is one picture: send one for each": (
        "n niter batchsize batchcount numimages numimagesperprompt numoutputs samples"
    ),
    "give width and height as numbers": "size imagesize resolution aspectratio dimensions",
    "pictures are made from text alone": (
        "image initimage initimages inputimage mask maskimage denoisingstrength denoise"
    ),
    "a picture is drawn in one pass": "enablehr hrscale hrupscaler hrsecondpasssteps hrresizex",
    "a seed gives one picture": "subseed subseedstrength variationseed",
    "the answer names the address of the picture": "responseformat sendimages saveimages",
}

_SAMPLERS: Mapping[str, str] = {
    "euler": "euler eulerdiscretescheduler",
    "euler_a": "eulera eulerancestral eulerancestraldiscretescheduler",
    "ddim": "ddim ddimscheduler plmsddim",
    "heun": "heun heundiscretescheduler",
    "lms": "lms lmsdiscretescheduler",
    "dpm++_2m": "dpm++2m dpmsolvermultistep dpmsolvermultistepscheduler",
    "dpm++_2m_sde": "dpm++2msde dpm++2msdegpu",
    "dpm++_sde": "dpm++sde dpm++sdegpu dpmsolversde dpmsolversdescheduler",
    "lcm": "lcm lcmscheduler",
    "tcd": "tcd tcdscheduler",
}

_SCHEDULES: Mapping[str, str] = {
    "default": "automatic normal discrete none",
    "karras": "karras usekarrassigmas",
    "sgm_uniform": "sgmuniform trailing",
}

_VALUES: Mapping[str, Mapping[str, str]] = {
    "sampler": _SAMPLERS,
    "schedule": _SCHEDULES,
    "output_format": {"png": "imagepng", "jpeg": "jpg imagejpeg imagejpg", "webp": "imagewebp"},
    "priority": {"interactive": "high normal", "batch": "low background"},
}

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})

_TAG = re.compile(r"<(?:lora|lyco):(?P<name>[^:<>]+)(?::(?P<weight>[^:<>]+))?[^<>]*>", re.I)


def field_hint(name: str, known: Collection[str]) -> str:
    """The field of `known` that an unknown field's name means, or the place of its meaning."""
    plain = _plain(name)
    for field, others in _FIELDS.items():
        if plain in others.split() and field in known:
            # Theirs counts from the last layer, ours from the one that SDXL was trained on.
            remark = ", and is 0 for the 2 there" if plain == "clipstopatlastlayers" else ""
            return f"here it is called {field}{remark}"
    for remark, others in _ELSEWHERE.items():
        if plain in others.split():
            return remark
    near = _nearest(plain, {field: field for field in known})
    return f"perhaps {near} is meant" if near else ""


def value_hint(field: str, value: str, known: Sequence[str]) -> str:
    """The value of `known`, or the two fields, that a value which is none of them means."""
    plain = _plain(value)
    table = _VALUES.get(field, {})
    if found := _meant(plain, table):
        return f'here it is called "{found}"' if found in known else ""
    if field == "sampler":
        for schedule, endings in _SCHEDULES.items():
            for ending in endings.split():
                sampler = _meant(plain.removesuffix(ending), table)
                if plain.endswith(ending) and sampler in known:
                    return f'here it is "sampler": "{sampler}" with "schedule": "{schedule}"'
    near = _nearest(plain, {name: name for name in known})
    return f'perhaps "{near}" is meant' if near else ""


def lora_hint(value: str, known: Mapping[str, str]) -> str:
    """The LoRA that an unknown id means; `known`: ids by every name of theirs."""
    near = _nearest(_plain(value.removesuffix(".safetensors")), known)
    return f'perhaps "{near}" is meant' if near else ""


def type_hint(value: object, types: Sequence[str]) -> str:
    """The right form of a value whose type is wrong."""
    if "boolean" in types and isinstance(value, str | int):
        word = str(value).lower()
        known = word in _TRUE | _FALSE
        return f"give {json.dumps(word in _TRUE)}{_unquoted(value)}" if known else ""
    if isinstance(value, str) and {"integer", "number"} & set(types):
        number = _number(value)
        return "" if number is None else f"give {number}{_unquoted(value)}"
    if isinstance(value, list) and "string" in types:
        return "give one text: a request is one picture"
    return ""


def lora_form(value: object) -> str:
    """The form of a LoRA, with the id and the weight that `value` seems to name."""
    name, weight = "ink", "0.8"
    if isinstance(value, Mapping) and value:
        meant = {_meant(_plain(key), _FIELDS): member for key, member in value.items()}
        named = (meant["id"], meant.get("weight", "")) if "id" in meant else None
        value = ":".join(map(str, named or next(iter(value.items()))))
    if isinstance(value, str) and value:
        tag = _TAG.fullmatch(value)
        name, rest = (tag["name"], tag["weight"]) if tag else value.partition(":")[::2]
        weight = _number(rest or "") or weight
    shown = json.dumps(name if len(name) <= 40 else f"{name[:37]}...")
    return f'{{"id": {shown}, "weight": {weight}}}'


def limit_hint(field: str, value: float) -> str:
    """The meaning elsewhere of a number beyond its limits, and how that is said here."""
    if field == "seed" and value == -1:
        return "for a seed that is drawn give null, or leave seed out"
    if field == "cfg_scale" and value < 1:
        return "1 is no guidance"
    return ""


def multiple_hint(value: float, multiple: int, limits: tuple[int, int]) -> str:
    """The nearest multiples, where they are within the limits."""
    below = int(value // multiple) * multiple
    near = [side for side in (below, below + multiple) if limits[0] <= side <= limits[1]]
    return f"near are {' and '.join(map(str, near))}" if near else ""


def tag_hint(tag: str) -> str:
    """The way in which a request names the LoRA of a tag such as `<lora:ink:0.8>`; else empty."""
    return f'name LoRAs in the request\'s "loras": {lora_form(tag)}' if _TAG.fullmatch(tag) else ""


def _unquoted(value: object) -> str:
    return ", without quotes" if isinstance(value, str) else ""


def _plain(name: str) -> str:
    letters = re.sub(r"[^a-z0-9+]", "", name.lower().replace("dpmpp", "dpm++"))
    return letters.removeprefix("k") if re.match(r"(?i)k_", name) else letters


def _meant(plain: str, table: Mapping[str, str]) -> str:
    return next((name for name, others in table.items() if plain in others.split()), "")


def _nearest(plain: str, names: Mapping[str, str]) -> str:
    """The value of the name that is most like `plain`; empty where none is much like it."""
    plains = {_plain(name): value for name, value in names.items()}
    near = get_close_matches(plain, plains, 1, 0.75)
    return plains[near[0]] if near else ""


def _number(text: str) -> str | None:
    """A number as JSON writes it, or None for other text."""
    try:
        number: Any = json.loads(text.strip().removeprefix("+"))
    except ValueError:
        return None
    return json.dumps(number) if type(number) in (int, float) and abs(number) < 1e18 else None
