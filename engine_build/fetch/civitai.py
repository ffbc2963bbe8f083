"""Looks up a version of a model on Civitai and fetches its weights.

The answers are those of Civitai's REST API (https://github.com/civitai/civitai/wiki/REST-API-Reference).
"""

import os
from collections.abc import Mapping
from dataclasses import field
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as checked_dataclass

from engine_build.checkpoint.pickles import refuse_pickle
from engine_build.fetch.connection import Address, Token, answer, persist
from engine_build.fetch.download import WEIGHTS, RemoteFile
from engine_build.fetch.located import Fetching, Located, Release
from engine_build.fetch.references import CivitaiReference
from runtime.errors import SourceError
from runtime.package.manifest import Source

# Further fields of the API are of no use here, and may change.
_ANSWER = ConfigDict(alias_generator=to_camel, extra="ignore")

AnswerT = TypeVar("AnswerT")


@checked_dataclass(frozen=True, config=_ANSWER)
class _File:
    name: str
    download_url: str
    type: str = "Model"
    """Model or Pruned Model; a VAE, a configuration and others are no weights to be built."""
    primary: bool = False
    hashes: Mapping[str, str] = field(default_factory=dict)


@checked_dataclass(frozen=True, config=_ANSWER)
class _Model:
    name: str


@checked_dataclass(frozen=True, config=_ANSWER)
class _Version:
    id: int
    model_id: int
    name: str
    model: _Model
    files: tuple[_File, ...]
    base_model: str | None = None
    trained_words: tuple[str, ...] | None = None


@checked_dataclass(frozen=True, config=_ANSWER)
class _Listed:
    id: int


@checked_dataclass(frozen=True, config=_ANSWER)
class _Versions:
    model_versions: tuple[_Listed, ...]
    """The newest first."""


_VERSION: TypeAdapter[_Version] = TypeAdapter(_Version)
_VERSIONS: TypeAdapter[_Versions] = TypeAdapter(_Versions)


def fetch_from_civitai(reference: CivitaiReference, fetching: Fetching) -> Located:
    """The weights of a version, or of a model's newest one.

    CIVITAI_TOKEN is read from the environment, and CIVITAI_ENDPOINT for another address. Raises
    SourceError and BuildError.
    """
    endpoint = (os.environ.get("CIVITAI_ENDPOINT") or "https://civitai.com").rstrip("/")
    token = Token("CIVITAI_TOKEN", os.environ.get("CIVITAI_TOKEN"))
    api = Address(f"{endpoint}/api/v1", token)
    number = reference.version or _newest(reference, api, fetching)
    version = _ask(api, f"model-versions/{number}", _VERSION, fetching)
    if reference.model not in (None, version.model_id):
        raise SourceError(
            f"{reference}: version {version.id} is of model {version.model_id}, "
            f"{version.model.name}; correct one of the two"
        )
    file = _weights(version, reference)
    host = _host(file.download_url, reference)
    sha256 = {name.upper(): value.lower() for name, value in file.hashes.items()}.get("SHA256")
    # A token of Civitai's is for Civitai alone, wherever its answer sends us.
    known = token if host == urlsplit(endpoint)[:2] else None
    cached = fetching.file(RemoteFile(Address(file.download_url, known), file.name, sha256))
    return Located(
        cached.path,
        Source("civitai", f"civitai:{version.id}", str(version.id), cached.sha256),
        Release(
            id=version.id,
            name=f"{version.model.name} {version.name}",
            triggers=_words(version.trained_words or ()),
            base_model=version.base_model,
        ),
    )


def _host(url: str, reference: CivitaiReference) -> tuple[str, str]:
    """Scheme and host of the address that Civitai gives for a file. Raises SourceError."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
    except ValueError:
        whole = False
    if not whole:
        raise SourceError(f"{reference}: {url!r:.80} is no address that a file comes from")
    return parts.scheme, parts.netloc


def _newest(reference: CivitaiReference, api: Address, fetching: Fetching) -> int:
    listed = _ask(api, f"models/{reference.model}", _VERSIONS, fetching).model_versions
    if not listed:
        raise SourceError(f"{reference}: the model has no published version")
    return listed[0].id


def _weights(version: _Version, reference: CivitaiReference) -> _File:
    """The version's weights in safetensors: the primary file, or the first. Raises SourceError."""
    models = [file for file in version.files if file.type in ("Model", "Pruned Model")]
    found = [file for file in models if file.name.lower().endswith(WEIGHTS)]
    if found:
        return max(found, key=lambda file: file.primary)
    for file in models:
        refuse_pickle(file.name)
    names = ", ".join(file.name for file in version.files) or "none"
    raise SourceError(f"{reference}: no {WEIGHTS} file among its files ({names})")


def _words(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Each entry may hold several words with commas between them."""
    words = (word.strip() for entry in entries for word in entry.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def _ask(api: Address, path: str, shape: TypeAdapter[AnswerT], fetching: Fetching) -> AnswerT:
    address = Address(f"{api.url}/{path}", api.token)

    def attempt() -> bytes:
        with answer(address) as response:
            return response.read()

    content = persist(attempt, fetching.patience)
    try:
        return shape.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise SourceError(
            f"{address.url}: not what Civitai's API answers: {where}: {first['msg']}"
        ) from error
