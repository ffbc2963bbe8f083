"""API keys: made once, shown once, kept as hashes in a file of the data folder.

A key is `calo_ID_SECRET`, whose secret has 256 random bits. Nobody can try that many, so one round
of SHA-256 keeps it as safe as a slow hash would, and costs a request nothing.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from runtime.errors import CalotypeError, quoted
from runtime.files import write_whole

FILE = "keys.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"calo_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})", re.ASCII)


class Scope(IntEnum):
    """Rights of a key; each includes those before it."""

    READ = 1
    """Look at jobs, pictures and the model."""
    GENERATE = 2
    """Submit and cancel jobs."""
    ADMIN = 3
    """Delete pictures, and read the metrics from other machines."""

    @property
    def word(self) -> str:
        """The scope as commands and answers name it."""
        return self.name.lower()


class KeysError(CalotypeError):
    """A key that cannot be made or found, or a file of keys that cannot be read."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: str
    name: str
    scope: Scope
    hash: str
    """SHA-256 of the whole key, in hexadecimal digits."""
    created_at: str
    rate: int | None = None
    """Pictures a minute that it may ask for; None for the server's own bound."""


@dataclass(frozen=True, slots=True)
class _Kept:
    keys: tuple[ApiKey, ...] = ()
    signing: str = ""
    """Secret by which the cookies of browsers are signed, in hexadecimal digits."""


class KeyFile:
    """The keys of a data folder. What another process writes is seen at once."""

    def __init__(self, data: Path) -> None:
        """Nothing is read yet; the file need not be there."""
        self.path = data / FILE
        self._seen: object = None
        self._kept = _Kept()

    def all(self) -> Sequence[ApiKey]:
        """The keys as they are now, in the order in which they were made. Raises KeysError."""
        return self._read().keys

    def signing_secret(self) -> bytes:
        """Secret of this file for signatures. Raises KeysError."""
        return bytes.fromhex(self._read().signing)

    def create(self, name: str, scope: Scope, rate: int | None = None) -> str:
        """Make a key; it is shown this once. Raises KeysError for a name that is taken or is none,
        OSError.
        """
        kept = self._read()
        if not _NAME.fullmatch(name):
            raise KeysError(
                f"{quoted(name)} is no name of a key: letters, digits, '.', '_' and '-', 64 at most"
            )
        if any(key.name == name for key in kept.keys):
            raise KeysError(f"there is a key named {name}; revoke it first, or take another name")
        identity = secrets.token_hex(6)
        key = f"calo_{identity}_{secrets.token_urlsafe(32)}"
        today = datetime.now(UTC).isoformat("T", "seconds")
        made = ApiKey(identity, name, scope, _hash(key), today, rate)
        self._write(_Kept((*kept.keys, made), kept.signing or secrets.token_hex(32)))
        return key

    def revoke(self, name: str) -> None:
        """Let a key be valid no more, and the cookies that were made for it. Raises KeysError."""
        kept = self._read()
        left = tuple(key for key in kept.keys if key.name != name)
        if len(left) == len(kept.keys):
            known = ", ".join(key.name for key in kept.keys) or "none"
            raise KeysError(f"there is no key named {quoted(name)}; there are: {known}")
        self._write(_Kept(left, kept.signing))

    def find(self, text: str) -> ApiKey | None:
        """The key that this text is; None for any other text. Raises KeysError."""
        parts = _KEY.fullmatch(text)
        key = self.by_id(parts["id"]) if parts else None
        # Compared in constant time, though the hash of a guess tells nothing about the secret.
        return key if key and hmac.compare_digest(key.hash, _hash(text)) else None

    def by_id(self, identity: str) -> ApiKey | None:
        """The key of this id. Raises KeysError."""
        return next((key for key in self._read().keys if key.id == identity), None)

    def _read(self) -> _Kept:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            self._seen, self._kept = None, _Kept()
            return self._kept
        except OSError as error:
            raise KeysError(f"{self.path}: cannot be read: {error.strerror}") from error
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen != self._seen:
            self._kept, self._seen = _parsed(self.path), seen
        return self._kept

    def _write(self, kept: _Kept) -> None:
        keys = [{**asdict(key), "scope": key.scope.word} for key in kept.keys]
        content = {"signing": kept.signing, "keys": keys}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mask = os.umask(0o077)  # for the owner alone, from its first byte on
        try:
            write_whole(self.path, (json.dumps(content, indent=1) + "\n").encode())
        finally:
            os.umask(mask)


def scope_named(word: str) -> Scope:
    """The scope of that name. Raises ValueError."""
    for scope in Scope:
        if scope.word == word:
            return scope
    raise ValueError(f"{word!r} is no scope; expected {', '.join(each.word for each in Scope)}")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _parsed(path: Path) -> _Kept:
    try:
        content = json.loads(path.read_bytes())
        bytes.fromhex(content["signing"])
        return _Kept(tuple(_key(each) for each in content["keys"]), content["signing"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise KeysError(
            f"{path}: no file of keys ({type(error).__name__}); put the right one back, or delete "
            "it and make new keys with `calotype keys create`"
        ) from error


def _key(content: Mapping[str, Any]) -> ApiKey:
    values = {name: str(content[name]) for name in ("id", "name", "hash", "created_at")}
    rate = content.get("rate")
    return ApiKey(
        scope=scope_named(content["scope"]), rate=None if rate is None else int(rate), **values
    )
