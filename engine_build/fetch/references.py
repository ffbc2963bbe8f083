"""References to models and LoRAs, as people write them.

Nothing is looked up here, except whether a path exists: `owner/name` is a folder where there is
one, and an id on the Hugging Face Hub elsewhere.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from engine_build.checkpoint.pickles import refuse_pickle
from runtime.errors import SourceError

FORMS = (
    "expected a path, file:///PATH, a Hugging Face id (owner/name, owner/name@revision or "
    "owner/name/file.safetensors), urn:air:...:civitai:MODEL@VERSION, civitai:VERSION, "
    "or an http(s) URL"
)

_HUB = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:/(?P<file>[^@]+))?"
    r"(?:@(?P<revision>[\w.][\w./-]*))?"
)
_AIR = re.compile(
    r"urn:air:(?P<ecosystem>[\w-]+):(?P<type>[\w-]+):(?P<host>[\w-]+):(?P<model>[^@:]+)"
    r"(?:@(?P<version>[^:]+))?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LocalReference:
    """A file or a folder of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class HubReference:
    """A repository on the Hugging Face Hub, or one file of it."""

    repository: str
    """`owner/name`."""
    file: str | None = None
    revision: str | None = None
    """A branch, tag or commit; None for the default branch."""

    def __str__(self) -> str:
        path = f"{self.repository}/{self.file}" if self.file else self.repository
        return f"{path}@{self.revision}" if self.revision else path


@dataclass(frozen=True, slots=True)
class CivitaiReference:
    """A version of a model on Civitai; at least one of the two ids is known."""

    model: int | None = None
    version: int | None = None
    """None for the model's latest version."""

    def __str__(self) -> str:
        if self.model is None:
            return f"civitai:{self.version}"
        latest = "" if self.version is None else f"@{self.version}"
        return f"civitai model {self.model}{latest}"


@dataclass(frozen=True, slots=True)
class UrlReference:
    """A file on a web server."""

    url: str
    sha256: str | None = None

    def __str__(self) -> str:
        return self.url


Reference = LocalReference | HubReference | CivitaiReference | UrlReference


def parse(text: str) -> Reference:
    """The reference in a text. Raises SourceError for a text that is none, or names a pickle."""
    if not text.strip() or "\0" in text:
        raise SourceError(f"{text!r} is no reference; {FORMS}")
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _SCHEMES:
        return _SCHEMES[scheme](text)
    if colon and rest.startswith("//"):
        raise SourceError(f"{text}: no known scheme; {FORMS}")
    return _path_or_hub(text)


def _path_or_hub(text: str) -> LocalReference | HubReference:
    path = Path(text).expanduser()
    match = _HUB.fullmatch(text)
    if match is None or path.exists():
        refuse_pickle(path.name)
        return LocalReference(path)
    if match["file"] is not None:
        refuse_pickle(match["file"])
        if not match["file"].endswith(".safetensors"):
            # More than two parts, and no file that could be fetched: a path that is mistyped.
            return LocalReference(path)
    return HubReference(match["repository"], match["file"], match["revision"])


def _file_url(text: str) -> LocalReference:
    parts = urlsplit(text)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/"):
        raise SourceError(f"{text}: no file of this machine, expected file:///PATH")
    refuse_pickle(path)
    return LocalReference(Path(path))


def _web_url(text: str) -> UrlReference:
    url, fragment = urldefrag(text)
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise SourceError(f"{text}: no valid URL, expected https://HOST/PATH/FILE.safetensors")
    refuse_pickle(unquote(parts.path))
    if not fragment:
        return UrlReference(url)
    name, _, digest = fragment.partition("=")
    if name != "sha256" or not _SHA256.fullmatch(digest.lower()):
        raise SourceError(f"{text}: #{fragment} is no hash, expected #sha256= and 64 hex digits")
    return UrlReference(url, digest.lower())


def _civitai(text: str) -> CivitaiReference:
    return CivitaiReference(version=_number(text.removeprefix("civitai:"), text))


def _air(text: str) -> CivitaiReference:
    """An AIR (https://github.com/civitai/civitai/wiki/AIR-%E2%80%90-Uniform-Resource-Names)."""
    match = _AIR.fullmatch(text)
    if match is None:
        raise SourceError(f"{text}: no AIR, expected urn:air:sdxl:checkpoint:civitai:MODEL@VERSION")
    if match["host"] != "civitai":
        raise SourceError(f"{text}: AIRs of {match['host']} are not known, expected civitai")
    version = match["version"]
    return CivitaiReference(
        model=_number(match["model"], text),
        version=None if version is None else _number(version, text),
    )


def _number(digits: str, text: str) -> int:
    if not digits.isascii() or not digits.isdecimal():
        raise SourceError(f"{text}: {digits!r} is no id of Civitai, expected a whole number")
    return int(digits)


_SCHEMES: dict[str, Callable[[str], Reference]] = {
    "file": _file_url,
    "http": _web_url,
    "https": _web_url,
    "civitai": _civitai,
    "urn": _air,
}
