"""A model as far as a request has to be understood: its package, family and tokenizers.

No engine is open in it. The API process holds one to refuse what is wrong; the worker holds one
inside its generator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.package.manifest import ModelPackage, TokenizerRecord, load_package
from runtime.package.shelf import LoraShelf
from runtime.plan.families import family_named
from runtime.plan.families.family import Family
from runtime.plan.parameters import LoraOffer, parameters_schema
from runtime.plan.plan import Plan, make_plan
from runtime.plan.request import GenerateRequest, read_request
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec


@dataclass(frozen=True, slots=True)
class Model:
    """What `open_model` gives."""

    package: ModelPackage
    family: Family
    tokenizers: Mapping[str, PromptTokenizer]
    shelf: LoraShelf

    @property
    def name(self) -> str:
        """The package's name."""
        return self.package.manifest.name

    @property
    def loras(self) -> tuple[LoraOffer, ...]:
        """The LoRA packs that there are now; none where the family takes none."""
        if not self.family.facts(self.package.manifest).loras:
            return ()
        return tuple(LoraOffer.of(pack.record) for pack in self.shelf.packs())

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of a request, with the LoRAs of this moment."""
        manifest = self.package.manifest
        return parameters_schema(manifest, self.family.facts(manifest), self.loras)

    def read(self, body: object) -> GenerateRequest:
        """A parsed body as a complete request. Raises RequestError."""
        return read_request(body, self.parameters)

    def plan(self, request: GenerateRequest) -> Plan:
        """A request's plan. Raises RequestError."""
        return make_plan(
            request, self.package.manifest, self.family, self.tokenizers, self.shelf.packs()
        )


def open_model(engines: Path, name: str) -> Model:
    """Read the package `engines/name`, every file of it checked. Raises PackageError."""
    return model_of(load_package(engines, name))


def model_of(package: ModelPackage) -> Model:
    """The model of a package that was read and found whole. Raises PackageError."""
    family = family_named(package.manifest.family)
    return Model(
        package=package,
        family=family,
        tokenizers={
            key: PromptTokenizer.load(package.file(record.file), _spec(record))
            for key, record in package.manifest.tokenizers.items()
        },
        shelf=LoraShelf(package),
    )


def _spec(record: TokenizerRecord) -> TokenizerSpec:
    return TokenizerSpec(
        begin=record.begin, end=record.end, pad=record.pad, max_length=record.max_length
    )
