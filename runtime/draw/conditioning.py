"""Conditionings: the text encoders' output for prompts, cached for repeated prompts.

A prompt's conditioning depends on its weighted chunks, its text encoder layer (clip skip), and the
LoRAs that change a text encoder. Only these are in the cache's key, so that a request whose LoRAs
change the denoiser alone uses the conditioning that was cached without LoRAs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtime.backends.protocol import Engine
from runtime.draw.lora.switch import LoraSwitch
from runtime.draw.lora.weights import EffectiveWeights
from runtime.draw.recent import Recent
from runtime.package.pack import LoraSet
from runtime.plan.families.family import Conditioning, Family, Prompt


@dataclass(frozen=True, slots=True)
class Lookups:
    """Counts of prompts whose conditioning was in the cache (hits) or had to be made (misses)."""

    hits: int = 0
    misses: int = 0


class Conditioner:
    """The text encoders of a model, and the conditionings of recent prompts. For one thread."""

    def __init__(
        self,
        family: Family,
        engines: Mapping[str, Engine],
        effective: EffectiveWeights,
        budget_bytes: int,
    ) -> None:
        """`engines` holds the family's text roles. A `budget_bytes` of 0 keeps nothing."""
        self._family = family
        self._engines = engines
        self._switches = [LoraSwitch(effective, role, engine) for role, engine in engines.items()]
        self._kept: Recent[tuple[Prompt, LoraSet], Conditioning] = Recent(budget_bytes, _size_bytes)
        self.lookups = Lookups()

    def of(self, prompt: Prompt, loras: LoraSet) -> Conditioning:
        """The conditioning of a prompt under a LoRA set, in arrays that are read-only.

        Raises PackageError for a LoRA that cannot be read, and BackendError.
        """
        acting = tuple(
            (pack, weight)
            for pack, weight in loras
            if not pack.record.roles.isdisjoint(self._engines)
        )
        kept = self._kept.get((prompt, acting))
        if kept is not None:
            self.lookups = replace(self.lookups, hits=self.lookups.hits + 1)
            return kept
        for switch in self._switches:
            switch.apply(acting)
        made = self._family.encode(prompt, self._engines)
        for array in made.values():
            array.flags.writeable = False
        self._kept.keep((prompt, acting), made)
        self.lookups = replace(self.lookups, misses=self.lookups.misses + 1)
        return made


def _size_bytes(conditioning: Conditioning) -> int:
    return sum(array.nbytes for array in conditioning.values())
