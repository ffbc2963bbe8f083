"""Conditionings: the text encoders' output for prompts, cached for repeated prompts.

A prompt's conditioning depends on its weighted chunks, its text encoder layer (clip skip), and the
LoRAs that change a text encoder. Only these are in the cache's key, so that a request whose LoRAs
change the denoiser alone uses the conditioning that was cached without LoRAs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from time import perf_counter

from runtime.draw.encoders import TextEncoders
from runtime.draw.recent import Recent
from runtime.package.pack import LoraSet
from runtime.plan.families.family import Conditioning, Prompt


@dataclass(frozen=True, slots=True)
class Lookups:
    """Counts of prompts whose conditioning was in the cache (hits) or had to be made (misses)."""

    hits: int = 0
    misses: int = 0
    seconds: float = 0.0
    """The time that the misses took, with the opening of text encoders that are put aside."""

    def since(self, before: "Lookups") -> "Lookups":
        """The lookups after those that were counted before."""
        return Lookups(
            self.hits - before.hits, self.misses - before.misses, self.seconds - before.seconds
        )


class Conditioner:
    """Text encoders, and the conditionings of recent prompts. For one thread."""

    def __init__(self, encoders: TextEncoders, budget_bytes: int) -> None:
        """A `budget_bytes` of 0 keeps nothing."""
        self._encoders = encoders
        self._kept: Recent[tuple[Prompt, LoraSet], Conditioning] = Recent(budget_bytes, _size_bytes)
        self.lookups = Lookups()

    def of(self, prompts: Iterable[Prompt], loras: LoraSet) -> list[Conditioning]:
        """The conditioning of each of a picture's prompts under a LoRA set, in arrays that are
        read-only. Text encoders that are put aside are opened once at most.

        Raises PackageError for a LoRA that cannot be read, and BackendError.
        """
        acting = tuple(
            (pack, weight)
            for pack, weight in loras
            if not pack.record.roles.isdisjoint(self._encoders.roles)
        )
        try:
            return [self._of(prompt, acting) for prompt in prompts]
        finally:
            self._encoders.rest()

    def _of(self, prompt: Prompt, acting: LoraSet) -> Conditioning:
        kept = self._kept.get((prompt, acting))
        if kept is not None:
            self.lookups = replace(self.lookups, hits=self.lookups.hits + 1)
            return kept
        began = perf_counter()
        made = self._encoders.encode(prompt, acting)
        for array in made.values():
            array.flags.writeable = False
        self._kept.keep((prompt, acting), made)
        seconds = self.lookups.seconds + perf_counter() - began
        self.lookups = replace(self.lookups, misses=self.lookups.misses + 1, seconds=seconds)
        return made


def _size_bytes(conditioning: Conditioning) -> int:
    return sum(array.nbytes for array in conditioning.values())
