"""Words in a text that stand for tokens of their own: the names of textual inversions."""

import re
from collections.abc import Iterator, Mapping

EXTENSION = r"(?:\.(?:safetensors|pt|bin))?"
"""The end of a file's name, which ComfyUI takes behind the name of a word."""

Words = Mapping[str, tuple[int, ...]]
"""Token ids by the folded name of a word."""


def split(text: str, words: Words) -> Iterator[str | tuple[int, ...]]:
    """The pieces of a text in order: the ids of each word in it, and the text between words.

    A word is its bare name, or `embedding:` and its name, in any case.
    """
    if not words:
        yield text
        return
    # The longest first: a name may begin with another one.
    names = "|".join(re.escape(name) for name in sorted(words, key=len, reverse=True))
    pattern = rf"(?<!\w)(?:embedding:({names}){EXTENSION}|({names}))(?!\w)"
    end = 0
    for match in re.finditer(pattern, text, re.IGNORECASE):
        yield text[end : match.start()]
        yield words[(match[1] or match[2]).casefold()]
        end = match.end()
    yield text[end:]
