"""LoRAs in a prompt: `<lora:ID:WEIGHT>`, as modules/extra_networks.py of the web UI reads it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import RequestError

# The lookbehind keeps a long run of spaces from being tried at each of its places.
_TAG = re.compile(r"(?<!\s)\s*<(lora|lyco|hypernet):([^<>]+)>", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
_FORM = "<lora:ID:WEIGHT>, such as <lora:ink:0.8>"


@dataclass(frozen=True, slots=True)
class TakenApart:
    """A prompt without its tags, and the LoRAs that these named, as a request lists them."""

    prompt: str
    loras: Sequence[Mapping[str, Any]]


def take_loras(prompt: str) -> TakenApart:
    """Take the tags of LoRAs out of a prompt, each with the space before it.

    A weight that is left out is 1, as there. Raises RequestError for a tag that cannot be honoured.
    """
    loras = [_lora(kind.lower(), inside) for kind, inside in _TAG.findall(prompt)]
    return TakenApart(_TAG.sub("", prompt).strip() if loras else prompt, loras)


def _lora(kind: str, inside: str) -> Mapping[str, Any]:
    if kind == "hypernet":
        raise RequestError(
            "/prompt", f"<{kind}:{inside}>: hypernetworks are not served; take LoRAs"
        )
    identity, *weights = inside.split(":")
    text, *others = weights or ["1"]
    if others or not _NUMBER.fullmatch(text.strip()):
        detail = f"<{kind}:{inside}> has no single weight for the whole LoRA; write {_FORM}"
        raise RequestError("/prompt", detail)
    return {"id": identity.strip(), "weight": float(text)}
