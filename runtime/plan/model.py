"""Model: all that is needed to check and plan a request, without an engine.

The API process holds a model to refuse requests that are wrong; the worker holds one inside its
generator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from runtime.package.manifest import Manifest, ModelPackage, TokenizerRecord, load_package
from runtime.package.pack import LoraPack
from runtime.package.shelf import InversionShelf, LoraShelf
from runtime.plan.families import family_named
from runtime.plan.families.family import Facts, Family
from runtime.plan.order import Order, for_several
from runtime.plan.parameters import LoraOffer, parameters_schema
from runtime.plan.plan import Plan, make_plan
from runtime.plan.request import GenerateRequest, read_request
from runtime.plan.text.inversions import unknown_words
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec
from runtime.plan.text.vocabulary import beyond
from runtime.plan.text.weighting import unsupported


@dataclass(frozen=True, slots=True)
class Model:
    """A package with its family, its tokenizers and its shelf of LoRA packs."""

    package: ModelPackage
    family: Family
    tokenizers: Mapping[str, PromptTokenizer]
    shelf: LoraShelf
    inversions: InversionShelf

    @property
    def name(self) -> str:
        """The package's name."""
        return self.manifest.name

    @property
    def manifest(self) -> Manifest:
        """The package's manifest."""
        return self.package.manifest

    @property
    def facts(self) -> Facts:
        """Capabilities of the family for this checkpoint."""
        return self.family.facts(self.manifest)

    def loras(self) -> tuple[LoraOffer, ...]:
        """The LoRAs that a request may name; none where the family takes none. Lists the shelf."""
        return self._offers(self.shelf.packs())

    def parameters(self, loras: Sequence[LoraOffer]) -> dict[str, Any]:
        """The JSON Schema of a request that may name these LoRAs."""
        return parameters_schema(self.manifest, self.facts, loras)

    def read(self, body: object) -> GenerateRequest:
        """A parsed body as a complete request. Lists the shelf. Raises RequestError."""
        return read_request(body, self.parameters(self.loras()))

    def plan(self, request: GenerateRequest) -> Plan:
        """A request's plan. Lists the shelf. Raises RequestError."""
        return self._plan(request, self.shelf.packs())

    def plan_of(self, body: object) -> Plan:
        """`read` and `plan` by one listing of the shelf. Raises RequestError."""
        packs = self.shelf.packs()
        return self._plan(read_request(body, self.parameters(self._offers(packs))), packs)

    def order_of(self, body: object) -> Order:
        """The order of a body, which may have `n` beside a request's fields. Raises RequestError.

        Lists the shelf once.
        """
        packs = self.shelf.packs()
        schema = for_several(self.parameters(self._offers(packs)))
        plan = self._plan(read_request(body, schema), packs)
        count = body.get("n", 1) if isinstance(body, Mapping) else 1
        return Order.of(plan, int(count))

    def warnings(self, request: Mapping[str, Any]) -> list[str]:
        """Sentences about what is text in a complete request's prompts and may not be meant so, and
        about a prompt beyond the model's vocabulary.
        Lists the shelves where a prompt has `embedding:` in it."""
        warnings = list(beyond(request["prompt"], self.manifest.vocabulary))
        for prompt in (request["prompt"], request["negative_prompt"] or ""):
            warnings += unsupported(prompt, weighted=request["prompt_weighting"])
            if unknown_words(prompt, ()):
                warnings += unknown_words(prompt, self._words(request["loras"]))
        return warnings

    def _words(self, loras: Sequence[Mapping[str, Any]]) -> list[str]:
        """The names of the textual inversions of the model, and of those LoRAs."""
        named = {choice["id"] for choice in loras}
        bundled = [pack.inversions for pack in self.shelf.packs() if pack.id in named]
        return [each.name for each in chain(self.inversions.inversions(), *bundled)]

    def _offers(self, packs: Sequence[LoraPack]) -> tuple[LoraOffer, ...]:
        return tuple(LoraOffer.of(pack.record) for pack in packs) if self.facts.loras else ()

    def _plan(self, request: GenerateRequest, packs: Sequence[LoraPack]) -> Plan:
        return make_plan(
            request,
            self.manifest,
            self.family,
            self.tokenizers,
            packs,
            inversions=self.inversions.inversions(),
        )


def open_model(engines: Path, name: str, *, anew: bool = False) -> Model:
    """Read the package `engines/name` and check every file of it; `anew` also reads and hashes the
    files whose hash is known. Raises PackageError.
    """
    return model_of(load_package(engines, name, anew=anew))


def model_of(package: ModelPackage) -> Model:
    """The model of a package that was read and checked. Raises PackageError."""
    family = family_named(package.manifest.family)
    return Model(
        package=package,
        family=family,
        tokenizers={
            key: PromptTokenizer.load(package.file(record.file), _spec(record))
            for key, record in package.manifest.tokenizers.items()
        },
        shelf=LoraShelf(package),
        inversions=InversionShelf(package),
    )


def _spec(record: TokenizerRecord) -> TokenizerSpec:
    return TokenizerSpec(
        begin=record.begin, end=record.end, pad=record.pad, max_length=record.max_length
    )
