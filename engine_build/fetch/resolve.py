"""From a reference to files of this machine, fetched where they are not here yet."""

from urllib.parse import urlsplit, urlunsplit

from engine_build.fetch.connection import Address
from engine_build.fetch.download import RemoteFile
from engine_build.fetch.located import Fetching, Located
from engine_build.fetch.references import (
    CivitaiReference,
    HubReference,
    LocalReference,
    Reference,
    UrlReference,
)
from runtime.package.manifest import Source


def resolve(
    reference: Reference, fetching: Fetching, without_weights: frozenset[str] = frozenset()
) -> Located:
    """The files of a reference, and where they came from.

    `without_weights` names networks whose weights come from elsewhere: a single file's base is not
    fetched with them. Whether a local path exists, and what is there, is for its reader to say.
    Raises SourceError where a host refuses, BuildError where the disk has no room.
    """
    match reference:
        case LocalReference(path):
            kind = "single file" if path.is_file() else "diffusers"
            # A name alone: paths differ from machine to machine.
            return Located(path, Source(kind, path.resolve().name))
        case UrlReference():
            return _fetch_url(reference, fetching)
        case CivitaiReference():
            from engine_build.fetch.civitai import fetch_from_civitai

            return fetch_from_civitai(reference, fetching)
        case HubReference():
            from engine_build.fetch.hub import fetch_from_hub

            return fetch_from_hub(reference, fetching, without_weights)


def _fetch_url(reference: UrlReference, fetching: Fetching) -> Located:
    file = fetching.file(RemoteFile(Address(reference.url), sha256=reference.sha256))
    # A query or fragment may hold a key, and a manifest is passed on.
    parts = urlsplit(reference.url)
    host = parts.netloc.rpartition("@")[2]
    public = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return Located(file.path, Source("url", public, sha256=file.sha256))
