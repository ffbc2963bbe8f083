"""The words that call up what a LoRA learned, put into prompts that do not hold them."""

import re

from runtime.package.pack import LoraSet
from runtime.plan.request import GenerateRequest

_SYNTAX = re.compile(r"[()\[\]\\]")


def with_triggers(request: GenerateRequest, loras: LoraSet) -> str:
    """The prompt, and each acting LoRA's trigger words that are not in it, with their emphasis.

    Words are compared whole and whatever their case; a LoRA's words are separated by commas. At an
    emphasis of 0 they are left out. Where the prompt's weights do not act they stand as they are.
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
    """Without an exponent, which the syntax of weights does not have."""
    return f"{weight:.6f}".rstrip("0").rstrip(".")
