"""A model as far as a request has to be understood: its package, family and tokenizers.

No engine is open in it. The API process holds one to refuse what is wrong; the worker holds one
inside its generator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.families import family_named
from runtime.families.family import Family
from runtime.manifest import ModelPackage, TokenizerRecord, load_package
from runtime.parameters import LoraOffer, parameters_schema
from runtime.plan import Plan, make_plan
from runtime.request import GenerateRequest, read_request
from runtime.text.tokenizer import PromptTokenizer, TokenizerSpec


@dataclass(frozen=True, slots=True)
class Model:
    """What `open_model` gives."""

    package: ModelPackage
    family: Family
    tokenizers: Mapping[str, PromptTokenizer]
    parameters: Mapping[str, Any]
    """The JSON Schema of a request."""
    loras: Sequence[LoraOffer]

    @property
    def name(self) -> str:
        """The package's name."""
        return self.package.manifest.name

    def read(self, body: object) -> GenerateRequest:
        """A parsed body as a complete request. Raises RequestError."""
        return read_request(body, self.parameters)

    def plan(self, request: GenerateRequest) -> Plan:
        """A request's plan. Raises RequestError."""
        return make_plan(request, self.package.manifest, self.family, self.tokenizers)


def open_model(engines: Path, name: str) -> Model:
    """Read the package `engines/name`, every file of it checked. Raises PackageError."""
    package = load_package(engines, name)
    family = family_named(package.manifest.family)
    loras: tuple[LoraOffer, ...] = ()
    return Model(
        package=package,
        family=family,
        tokenizers={
            key: PromptTokenizer.load(package.file(record.file), _spec(record))
            for key, record in package.manifest.tokenizers.items()
        },
        parameters=parameters_schema(package.manifest, family.facts(package.manifest), loras),
        loras=loras,
    )


def _spec(record: TokenizerRecord) -> TokenizerSpec:
    return TokenizerSpec(
        bos=record.begin, eos=record.end, pad=record.pad, max_length=record.max_length
    )
