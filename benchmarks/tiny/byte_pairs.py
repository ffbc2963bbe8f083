"""Byte-pair merges that are the same at every run: the library's trainer breaks ties by chance."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

Word = Sequence[str]


def learn_merges(words: Iterable[Word], most: int) -> list[tuple[str, str]]:
    """Up to `most` merges of the symbols that `words` consist of, the most frequent pair first."""
    known = list(words)
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        pairs = Counter(pair for word in known for pair in pairwise(word))
        if not pairs:
            break
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        known = [_merged(word, merges[-1]) for word in known]
    return merges


def _merged(word: Word, pair: tuple[str, str]) -> Word:
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged
