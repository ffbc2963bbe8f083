"""Trigger words of LoRAs, appended to prompts that lack them."""

import re

from runtime.package.pack import LoraSet
from runtime.plan.request import GenerateRequest

_SYNTAX = re.compile(r"[()\[\]\\]")


def with_triggers(request: GenerateRequest, loras: LoraSet) -> str:
    """The prompt with each acting LoRA's missing trigger words, at the request's emphasis.

    Trigger words are compared as whole words, case ignored; commas separate a LoRA's words. An
    emphasis of 0 adds no words. Where the prompt's weights do not act, words are added without one.
    """
    prompt = request.prompt
    emphasis = {choice.id: choice.trigger_weight for choice in request.loras}
    for pack, _ in loras:
        words = [word.strip() for word in pack.record.triggers.split(",")]
        missing = ", ".join(word for word in words if word and not _holds(prompt, word))
        if missing and emphasis[pack.id]:
            if request.prompt_weighting:
                escaped = _SYNTAX.sub(r"\\\g<0>", missing)
                missing = f"({escaped}:{_decimal(emphasis[pack.id])})"
            prompt = f"{prompt}, {missing}" if prompt.strip() else missing
    return prompt


def _holds(prompt: str, words: str) -> bool:
    # A word may stand in brackets that are escaped.
    plain = re.sub(r"\\(?=[()\[\]\\])", "", prompt)
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", plain, re.IGNORECASE) is not None


def _decimal(weight: float) -> str:
    """A number without an exponent, since the syntax of weights has none."""
    return f"{weight:.6f}".rstrip("0").rstrip(".")
