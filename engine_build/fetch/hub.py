"""Fetches what a build reads of a repository on the Hugging Face Hub, at one commit.

Small files come by the Hub's own library. Weights come by `engine_build.fetch.download`, by their
SHA-256, since the library does not resume a file after its process was killed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import httpx2
from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

from engine_build.checkpoint.sources import chosen_weights, read_json, shards, weights_stem
from engine_build.fetch.connection import Address, Token, TryAgain, persist
from engine_build.fetch.download import WEIGHTS, RemoteFile, check_space
from engine_build.fetch.located import Fetching, Located
from engine_build.fetch.references import HubReference
from runtime.errors import SourceError
from runtime.package.manifest import Source

_TEXTS = (".json", ".txt", ".model", ".jinja")
"""Configurations, tokenizers and chat templates."""
_INDEX = "model_index.json"
_PREVIEW_DECODER = "preview_decoder"

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A file of the repository."""

    name: str
    size_bytes: int
    sha256: str | None
    """The file's hash, known of files in Git LFS: of all weights but very small ones."""


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository at one commit."""

    reference: HubReference
    endpoint: str
    token: Token
    commit: str
    files: dict[str, _Stored]

    def remote(self, file: _Stored) -> RemoteFile:
        """The file as `download` takes it."""
        url = hf_hub_url(
            self.reference.repository, file.name, revision=self.commit, endpoint=self.endpoint
        )
        return RemoteFile(Address(url, self.token), PurePosixPath(file.name).name, file.sha256)

    def origin(self, file: str | None = None, sha256: str | None = None) -> Source:
        """The origin of a file, or else of the repository, for the manifest."""
        reference = HubReference(self.reference.repository, file)
        return Source("hugging face", str(reference), revision=self.commit, sha256=sha256)


def fetch_from_hub(
    reference: HubReference, fetching: Fetching, without_weights: frozenset[str]
) -> Located:
    """A file of a repository; a pipeline, without the weights of some networks; or one network.

    The revision becomes a commit first, so that all is of one version. HF_TOKEN is read from the
    environment, and HF_ENDPOINT for a mirror. Raises SourceError and BuildError.
    """
    repository = _look_up(reference, fetching)
    name = reference.file or _only_file(repository)
    if name is None:
        path = _fetch_folder(repository, fetching, without_weights)
        return Located(path, repository.origin())
    if name not in repository.files:
        raise SourceError(f"{reference}: there is no such file at commit {repository.commit}")
    file = fetching.file(repository.remote(repository.files[name]))
    return Located(file.path, repository.origin(name, file.sha256))


def _look_up(reference: HubReference, fetching: Fetching) -> _Repository:
    # Given to every call: the library reads HF_ENDPOINT once, when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    token = Token("HF_TOKEN", os.environ.get("HF_TOKEN"))
    api = HfApi(endpoint=endpoint, token=token.value or False)
    info = _ask(
        lambda: api.model_info(
            reference.repository, revision=reference.revision, files_metadata=True
        ),
        reference,
        fetching,
    )
    if not info.sha:
        raise SourceError(f"{reference}: {endpoint} names no commit of it")
    files = {
        item.rfilename: _Stored(
            item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs is not None else None
        )
        for item in info.siblings or ()
    }
    return _Repository(reference, endpoint, token, info.sha, files)


def _only_file(repository: _Repository) -> str | None:
    """The one weight file of a repository that is no folder of diffusers, as LoRAs often are; None
    for such a folder. Raises SourceError where a repository has no weight file, or several."""
    if _INDEX in repository.files or "config.json" in repository.files:
        return None
    found = sorted(name for name in repository.files if name.endswith(WEIGHTS))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found[:5]) or "none"
    raise SourceError(
        f"{repository.reference}: no diffusers model, it has no {_INDEX} and no config.json; name "
        f"one of its {WEIGHTS} files: {repository.reference.repository}/FILE (found: {listed})"
    )


def _fetch_folder(
    repository: _Repository, fetching: Fetching, without_weights: frozenset[str]
) -> Path:
    """A folder as diffusers saves it: all texts first, then the weights that they speak of."""
    place = fetching.cache / "hub" / repository.reference.repository.replace("/", "--")
    place.mkdir(parents=True, exist_ok=True)
    folder = place / repository.commit
    with FileLock(place / f"{repository.commit}.lock"):
        networks = _fetch_texts(repository, folder, fetching)
        weights = [
            file
            for name, library in networks.items()
            if name not in without_weights
            for file in _weights(repository, folder, name, library)
        ]
        missing = [file for file in weights if not (folder / file.name).is_file()]
        check_space(folder, sum(file.size_bytes for file in missing), str(repository.reference))
        for file in missing:
            (folder / file.name).parent.mkdir(exist_ok=True)
            # A hard link: it takes no room, and the weights may be used in place as any file.
            (folder / file.name).hardlink_to(fetching.file(repository.remote(file)).path)
    return folder


def _fetch_texts(repository: _Repository, folder: Path, fetching: Fetching) -> dict[str, str]:
    """Fetch the texts of all components; returns each component's library, by its folder.

    The folder "." is the root: the one network of a repository without model_index.json.
    """
    if _INDEX not in repository.files:
        _fetch_text(repository, "config.json", folder, fetching)
        return {".": "diffusers"}
    _fetch_text(repository, _INDEX, folder, fetching)
    components = {
        name: str(entry[0])
        for name, entry in read_json(folder / _INDEX).items()
        if isinstance(entry, list) and len(entry) == 2 and all(entry)
    }
    # No component of diffusers: we look for one beside them.
    components[_PREVIEW_DECODER] = "diffusers"
    for name in repository.files:
        path = PurePosixPath(name)
        if str(path.parent) in components and path.suffix in _TEXTS:
            _fetch_text(repository, name, folder, fetching)
    return components


def _fetch_text(repository: _Repository, name: str, folder: Path, fetching: Fetching) -> None:
    with _silent():
        _ask(
            lambda: hf_hub_download(
                repository.reference.repository,
                name,
                revision=repository.commit,
                local_dir=folder,
                endpoint=repository.endpoint,
                token=repository.token.value or False,
            ),
            repository.reference,
            fetching,
        )


def _weights(
    repository: _Repository, folder: Path, network: str, library: str
) -> tuple[_Stored, ...]:
    """The weight files that opening the folder would choose; none of a tokenizer or scheduler."""
    beside = {
        PurePosixPath(name).name: file
        for name, file in repository.files.items()
        if str(PurePosixPath(name).parent) == network
    }
    chosen = chosen_weights(beside, weights_stem(library), network)
    if chosen is None:
        return ()
    name, _ = chosen
    if not name.endswith(".json"):
        return (beside[name],)
    names = shards(folder / network / name)
    lost = [name for name in names if name not in beside]
    if lost:
        raise SourceError(
            f"{repository.reference}: {network}/{name} lists {lost[0]}, which is not there"
        )
    return tuple(beside[name] for name in names)


@contextmanager
def _silent() -> Iterator[None]:
    """No bar for each of many small files."""
    disable_progress_bars("huggingface_hub.http_get")
    try:
        yield
    finally:
        enable_progress_bars("huggingface_hub.http_get")


def _ask(action: Callable[[], ResultT], reference: HubReference, fetching: Fetching) -> ResultT:
    """Call the Hub's library, again while that may help. Raises SourceError."""

    def attempt() -> ResultT:
        try:
            return action()
        except LocalEntryNotFoundError as error:
            # The library got no answer, and has no older file either.
            reason = error.__cause__ or error
            raise TryAgain(f"{reference}: the Hub cannot be reached ({reason})") from error
        except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
            raise SourceError(_refusal(error, reference)) from error
        except HFValidationError as error:
            raise SourceError(f"{reference}: no id of a repository ({error})") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            told = f"{reference}: the Hub answers {status} {error.response.reason_phrase}"
            if status == 429 or status >= 500:
                raise TryAgain(told) from error
            raise SourceError(f"{told}; the token in HF_TOKEN may not read it") from error
        except (httpx2.TransportError, ConnectionError) as error:
            raise TryAgain(f"{reference}: the Hub cannot be reached ({error})") from error

    return persist(attempt, fetching.patience)


def _refusal(error: Exception, reference: HubReference) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"{reference}: its owner wants an agreement first; accept it on the model's page, and "
            "put a token of yours into HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{reference}: there is no revision {reference.revision!r}"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{reference}: there is no such repository on the Hub and nothing of that name "
            "here; if it is private, put a token of yours into HF_TOKEN"
        )
    return f"{reference}: {error}"
