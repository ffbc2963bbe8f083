"""A picture's recipe as the text of AUTOMATIC1111's web UI, which most tools of the field read.

The text is the prompt, the negative prompt, and one line of settings (`create_infotext` in its
modules/processing.py, read by modules/infotext_utils.py). The prompt is the one that was drawn,
with the trigger words of its LoRAs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from runtime.draw.web_ui_prompt import decimal, web_ui_prompt
from runtime.package.manifest import Manifest
from runtime.package.pack import LoraPack
from runtime.plan.families.family import Facts, Guidance
from runtime.plan.plan import Plan
from runtime.plan.request import GenerateRequest
from runtime.plan.sampling.scheduler_config import SchedulerConfig
from runtime.plan.sampling.titles import FLOW_SETTINGS, SAMPLER_TITLES, schedule_settings
from runtime.plan.text.words import EXTENSION

_MODEL = re.compile(r'(?:^|, )Model: ("(?:[^"\\]|\\.)*"|[^,"]*)')
_NEGATIVE = "Negative prompt: "

# The digits of a hash that name a file: AUTOMATIC1111's for a checkpoint, and Civitai's for any.
_HASH_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Infotext:
    """The parts of the text."""

    prompt: str
    networks: str
    """LoRAs, in the prompt's syntax for them; often empty."""
    negative_prompt: str
    settings: str
    """One line."""

    def text(self) -> str:
        """The whole text. The line of the negative prompt is always there: ComfyUI reads no text
        that lacks the line (`importA1111` of its pnginfo.ts)."""
        prompt = f"{self.prompt}{self.networks}"
        return f"{prompt}\n{_NEGATIVE}{self.negative_prompt}\n{self.settings}"

    def shortened(self, units: int) -> str | None:
        """The text with its prompts cut, the negative one first, so that all takes no more than
        this many units of UTF-16; None where LoRAs and settings alone take more."""
        room = units - _units(Infotext("", self.networks, "", self.settings).text())
        if room < 0:
            return None
        prompt = _cut(self.prompt, room)
        negative = _cut(self.negative_prompt, room - _units(prompt))
        return Infotext(prompt, self.networks, negative, self.settings).text()


def model_of(text: str) -> str:
    """The model's name in such a text; empty for none."""
    found = _MODEL.search(text.rpartition("\n")[2])
    value = found[1] if found else ""
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return ""


def infotext(plan: Plan, manifest: Manifest, facts: Facts) -> Infotext:
    """The text of a picture; `facts` are those of the model's family."""
    request = plan.request
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLER_TITLES.get(request.sampler, request.sampler),
        **_schedule(request, manifest, facts),
        **_guidance(request, facts),
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": manifest.source.sha256 and manifest.source.sha256[:_HASH_DIGITS],
        "Model": manifest.name,
        "Clip skip": request.clip_skip + 2 if request.clip_skip else None,
        "CFG Rescale phi": request.guidance_rescale or None,
        # Noise is what PyTorch draws on a CPU (runtime.plan.sampling.noise).
        "RNG": "CPU",
        "Lora hashes": ", ".join(f"{pack.id}: {_hash(pack)}" for pack, _ in plan.loras) or None,
        # No number alone: the web UI would take the picture for one of an old version of its own.
        "Version": f"Calotype {version('calotype')}",
    }
    weighted = request.prompt_weighting
    return Infotext(
        prompt=web_ui_prompt(_with_bare_words(plan.prompt, plan), weighted=weighted),
        networks="".join(f" <lora:{pack.id}:{decimal(weight)}>" for pack, weight in plan.loras),
        negative_prompt=web_ui_prompt(
            _with_bare_words(request.negative_prompt or "", plan), weighted=weighted
        ),
        settings=", ".join(
            f"{name}: {_quoted(str(value))}"
            for name, value in settings.items()
            if value is not None
        ),
    )


def _with_bare_words(prompt: str, plan: Plan) -> str:
    """A prompt that names textual inversions as the web UI does, without ComfyUI's `embedding:`."""
    names = {row.inversion.name for each in plan.prompts for row in each.rows}
    for name in sorted(names, key=len, reverse=True):
        named = rf"(?<!\w)embedding:({re.escape(name)}){EXTENSION}(?!\w)"
        prompt = re.sub(named, r"\1", prompt, flags=re.IGNORECASE)
    return prompt


def _schedule(request: GenerateRequest, manifest: Manifest, facts: Facts) -> Mapping[str, str]:
    if facts.flows:
        return FLOW_SETTINGS
    config = SchedulerConfig.from_mapping(manifest.scheduler)
    return schedule_settings(request.sampler, request.schedule, request.steps, config)


def _guidance(request: GenerateRequest, facts: Facts) -> Mapping[str, Any]:
    """Guidance of two evaluations, and guidance that a model is told, are two settings in Forge."""
    if facts.guidance is Guidance.CLASSIFIER_FREE:
        return {"CFG scale": request.cfg_scale}
    return {"CFG scale": 1, "Distilled CFG Scale": request.cfg_scale}


def _hash(pack: LoraPack) -> str:
    return pack.record.source.sha256[:_HASH_DIGITS]


def _quoted(value: str) -> str:
    """A value as `quote` of the web UI writes it: as JSON where it could end too early."""
    return json.dumps(value, ensure_ascii=False) if set(value) & set(",:\n") else value


def _units(text: str) -> int:
    return len(text.encode("utf-16-be")) // 2


def _cut(text: str, units: int) -> str:
    """The text's beginning, no half of a character at its end."""
    return text.encode("utf-16-be")[: 2 * units].decode("utf-16-be", "ignore")
