"""A model's text encoders: kept open, or put aside between the prompts that need them."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from time import perf_counter

from runtime.backends.protocol import Backend, Engine
from runtime.draw.extents import FilledEngine, warm_up
from runtime.draw.lora.switch import LoraSwitch
from runtime.draw.lora.weights import EffectiveWeights
from runtime.package.manifest import Manifest
from runtime.package.pack import LoraSet
from runtime.plan.families.family import Conditioning, Family, Prompt

logger = logging.getLogger(__name__)


class TextEncoders:
    """The text encoders of a model, with LoRA sets on them. For one thread."""

    def __init__(
        self,
        family: Family,
        backend: Backend,
        manifest: Manifest,
        effective: EffectiveWeights,
        *,
        aside: bool,
    ) -> None:
        """Open the family's text roles with a backend, for good, or `aside`: at each use.

        Raises BackendError.
        """
        self.roles = frozenset(family.text_roles)
        self._family = family
        self._backend = backend
        self._records = manifest.roles
        self._effective = effective
        self._aside = aside
        self._timed = False
        self._engines: Mapping[str, Engine] = {}
        self._switches: list[LoraSwitch] = []
        if not aside:
            self._open()

    def encode(self, prompt: Prompt, loras: LoraSet) -> Conditioning:
        """The conditioning of a prompt while a LoRA set acts, and the prompt's textual inversions
        are in their rows. Encoders put aside are opened, and stay open until `rest`.

        Raises PackageError for a LoRA or an embedding that cannot be read, and BackendError, also
        where encoders that were put aside find no room.
        """
        if not self._engines:
            self._open_for_prompt()
        for switch in self._switches:
            switch.apply(loras, prompt.rows)
        return self._family.encode(prompt, self._engines)

    def rest(self) -> None:
        """Put the encoders aside, where they are not kept: their memory is given back."""
        if self._aside:
            self.close()

    def close(self) -> None:
        """Give the memory of all encoders back."""
        engines, self._engines, self._switches = self._engines, {}, []
        for engine in engines.values():
            engine.close()

    def warm_up(self) -> None:
        """Run the encoders that are kept at each extent that their texts are filled up to, so that
        no prompt pays for a first run. Raises BackendError.
        """
        if self._backend.few_shapes:
            for role, engine in self._engines.items():
                warm_up(engine, self._records[role])

    def _opened(self, role: str) -> Engine:
        engine = self._backend.open(role)
        return FilledEngine(engine, self._records[role]) if self._backend.few_shapes else engine

    def _open_for_prompt(self) -> None:
        began = perf_counter()
        self._open()
        if not self._timed:
            seconds = perf_counter() - began
            logger.info("text encoders were opened in %.2f s, as for each new prompt", seconds)
        self._timed = True

    def _open(self) -> None:
        """Open all encoders, or none."""
        with ExitStack() as opened:
            engines = {}
            for role in self._family.text_roles:
                engines[role] = self._opened(role)
                opened.callback(engines[role].close)
            opened.pop_all()
        self._engines = engines
        # A new network has no LoRA on it, whatever was on the one before.
        self._switches = [
            LoraSwitch(self._effective, role, engine) for role, engine in engines.items()
        ]
