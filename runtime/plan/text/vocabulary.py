"""Prompts for a model that can draw few things: a warning for those that name none of these."""

import re
from collections.abc import Sequence


def beyond(prompt: str, vocabulary: Sequence[str]) -> tuple[str, ...]:
    """A sentence on a prompt that names nothing of the vocabulary, in singular or plural; none for
    an empty prompt, and where the vocabulary is empty, which is one without bounds.
    """
    if not vocabulary or not prompt.strip():
        return ()
    names = "|".join(re.escape(name) for name in vocabulary)
    if re.search(rf"(?<!\w)(?:{names})(?:e?s)?(?!\w)", prompt, re.IGNORECASE):
        return ()
    told = "The prompt names nothing that this model can draw, so the picture shows something else"
    return (f"{told}; it can draw: {', '.join(vocabulary)}.",)
