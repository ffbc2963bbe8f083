"""Puts a file of a web server into the cache: whole, checked, and once.

Each file has a folder of its own, `KEY/`, and a lock beside it. What is received goes into a
`.part` file, which the next attempt or process continues; only a file that was checked gets its
name.
"""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
from filelock import FileLock

from engine_build.checkpoint.pickles import refuse_pickle
from engine_build.fetch.connection import Address, Patience, TryAgain, answer, persist
from engine_build.progress import Transfer
from runtime.errors import BuildError, SourceError
from runtime.files import put_in_place, write_whole

WEIGHTS = ".safetensors"

_PART = "content.part"
_STATE = "content.json"
_CONTENT_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+)")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a web server, and the facts known before it is fetched."""

    address: Address
    name: str | None = None
    """The file's name; None: the name that the server or the URL states."""
    sha256: str | None = None

    @property
    def key(self) -> str:
        """The name of the file's folder in the cache: by its hash, or else by its URL."""
        known = self.sha256 or hashlib.sha256(self.address.url.encode()).hexdigest()
        return f"sha256-{known}" if self.sha256 else f"url-{known}"


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file in the cache."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class _State:
    """The state of a download, kept beside its file as JSON."""

    name: str
    validator: str | None = None
    """The value for If-Range (RFC 9110, 13.1.5): a strong ETag or a date."""
    size_bytes: int | None = None
    sha256: str | None = None
    """Of the finished file."""


def download(
    file: RemoteFile, cache: Path, patience: Patience, *, show_progress: bool
) -> CachedFile:
    """The file in the cache, downloaded unless it is there.

    Raises SourceError where the server refuses or sends something else than it should, BuildError
    where the disk has no room for it. Another process that downloads it is waited for.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / file.key
    with FileLock(cache / f"{file.key}.lock"):
        finished = _finished(folder)
        if finished is not None:
            return finished
        folder.mkdir(exist_ok=True)
        with Transfer(file.name or file.address.url, shown=show_progress) as progress:
            persist(lambda: _receive(file, folder, progress), patience)
        return _publish(file, folder)


def check_space(folder: Path, size_bytes: int, what: str) -> None:
    """Raise BuildError unless `size_bytes` fit on the disk of an existing folder, for `what`."""
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise BuildError(
            f"{what}: {size_bytes / 2**30:.2f} GiB are needed in {folder}, and {free / 2**30:.2f} "
            "GiB are free; make room, or choose another disk with --cache"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finished(folder: Path) -> CachedFile | None:
    state = _read_state(folder)
    if state is None or state.sha256 is None or not (folder / state.name).is_file():
        return None
    return CachedFile(folder / state.name, state.sha256)


def _receive(file: RemoteFile, folder: Path, progress: Transfer) -> None:
    """Receive all that is still missing of the part file, in one request."""
    part, state = folder / _PART, _read_state(folder)
    had = part.stat().st_size if part.is_file() and state is not None else 0
    if state is not None and had and had == state.size_bytes:
        return
    with answer(file.address, _range(file, had, state)) as response:
        start = _start(response, had)
        if start is None:
            part.unlink(missing_ok=True)
            raise TryAgain(f"{file.address.url}: the server cannot go on from byte {had}")
        new = _state(file, response, start)
        missing = (new.size_bytes or 0) - start
        check_space(folder, missing, file.address.url)
        _write_state(folder, new)
        progress.begin(start, new.size_bytes)
        received = start
        try:
            # Unbuffered: what a killed process had received is on the disk.
            with part.open("r+b" if start else "wb", buffering=0) as target:
                target.seek(start)
                target.truncate()
                for chunk in response.iter_raw():
                    target.write(chunk)
                    received += len(chunk)
                    progress.advance(len(chunk))
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise TryAgain(
                f"{file.address.url}: {reason}, at byte {received}", progressed=received > had
            ) from error


def _range(file: RemoteFile, had: int, state: _State | None) -> dict[str, str]:
    """The headers that ask for the rest only, where the rest can be known to belong to it."""
    validator = state.validator if state is not None else None
    if not had or not (validator or file.sha256):
        return {}
    headers = {"Range": f"bytes={had}-"}
    return {**headers, "If-Range": validator} if validator else headers


def _start(response: httpx2.Response, had: int) -> int | None:
    """The place in the file where the body begins; None for an answer that is of no use.

    A server that ignores the range, or whose file has changed, sends all of it with 200.
    """
    if response.status_code == 200:
        return 0
    matched = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return had if had and matched and int(matched["start"]) == had else None


def _state(file: RemoteFile, response: httpx2.Response, start: int) -> _State:
    headers = response.headers
    encoding = headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise SourceError(f"{file.address.url}: sent as {encoding}, expected the file as it is")
    etag, length = headers.get("ETag", ""), headers.get("Content-Length")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")
    size = start + int(length) if length is not None else None
    return _State(_name(file, response), validator, size)


def _name(file: RemoteFile, response: httpx2.Response) -> str:
    """A plain file name that ends in .safetensors. Raises SourceError where none is given."""
    disposition = re.search(
        r'filename="?([^";]+)"?', response.headers.get("Content-Disposition", "")
    )
    names = [
        file.name,
        unquote(disposition[1]) if disposition else None,
        unquote(urlsplit(file.address.url).path),
    ]
    plain = [PurePosixPath(name.replace("\\", "/")).name for name in names if name]
    for name in plain:
        refuse_pickle(name)
    for name in plain:
        if name.endswith(WEIGHTS) and name.isprintable():
            return name
    raise SourceError(f"{file.address.url}: no {WEIGHTS} file, it is called {plain[0]!r}")


def _publish(file: RemoteFile, folder: Path) -> CachedFile:
    """Check what was received and give it its name; what is wrong is deleted."""
    part, state = folder / _PART, _read_state(folder)
    assert state is not None, "written before the first byte"
    size, found = part.stat().st_size, file_sha256(part)
    fault = None
    if state.size_bytes is not None and size != state.size_bytes:
        fault = f"{size} bytes were received, {state.size_bytes} were promised"
    elif file.sha256 is not None and found != file.sha256:
        fault = f"its SHA-256 is {found}, expected {file.sha256}"
    if fault is not None:
        shutil.rmtree(folder)
        raise SourceError(f"{file.address.url}: {fault}; the file was deleted")
    put_in_place(part, folder / state.name)
    _write_state(folder, _State(state.name, state.validator, size, found))
    return CachedFile(folder / state.name, found)


def _read_state(folder: Path) -> _State | None:
    try:
        content: dict[str, Any] = json.loads((folder / _STATE).read_bytes())
        return _State(**content)
    except (FileNotFoundError, ValueError, TypeError):
        # One that was torn when the machine went down is as good as none.
        return None


def _write_state(folder: Path, state: _State) -> None:
    content = {name: getattr(state, name) for name in _State.__slots__}
    write_whole(folder / _STATE, json.dumps(content).encode())
