"""The files that each kind of reference leads to, and their record in the manifest."""

import hashlib
from pathlib import Path

import pytest

from engine_build.fetch.connection import Patience
from engine_build.fetch.located import Fetching, Located
from engine_build.fetch.references import parse
from engine_build.fetch.resolve import resolve
from runtime.package.manifest import Source
from tests.engine_build.fetch.server import Content, Server

BODY = b"weights"


def located(text: str, cache: Path) -> Located:
    return resolve(parse(text), Fetching(cache, Patience(attempts=1), show_progress=False))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_here_stays_where_it_is(tmp_path: Path, scheme: str) -> None:
    folder, file = tmp_path / "model", tmp_path / "model.safetensors"
    folder.mkdir()
    file.write_bytes(BODY)
    cache = tmp_path / "cache"
    assert located(f"{scheme}{folder}", cache) == Located(folder, Source("diffusers", "model"))
    found = located(f"{scheme}{file}", cache)
    assert found == Located(file, Source("single file", "model.safetensors"))
    assert not cache.exists()


def test_a_url_is_fetched_and_its_secrets_are_not_kept(server: Server, tmp_path: Path) -> None:
    server.contents["/a/b.safetensors?key=secret"] = Content(BODY)
    digest = hashlib.sha256(BODY).hexdigest()
    address = server.url.replace("http://", "http://me:word@")
    found = located(f"{address}/a/b.safetensors?key=secret#sha256={digest}", tmp_path)
    assert found.path.read_bytes() == BODY
    assert found.origin == Source("url", f"{server.url}/a/b.safetensors", sha256=digest)
