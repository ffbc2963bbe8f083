"""Versions of Civitai, from a server on loopback that answers as its API does."""

import hashlib
from pathlib import Path

import pytest

from engine_build.fetch.connection import Patience
from engine_build.fetch.located import Fetching, Located, Release
from engine_build.fetch.references import parse
from engine_build.fetch.resolve import resolve
from runtime.errors import SourceError
from runtime.package.manifest import Source
from tests.engine_build.fetch.civitai import MODEL, VERSION, Published
from tests.engine_build.fetch.server import Content, Server

BODY = b"weights of paper"
AIR = f"urn:air:sdxl:checkpoint:civitai:{MODEL}@{VERSION}"


@pytest.fixture(autouse=True)
def civitai(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
    monkeypatch.delenv("CIVITAI_TOKEN", raising=False)
    return server


def located(cache: Path, text: str = AIR) -> Located:
    fetching = Fetching(cache, Patience(attempts=2, pause_seconds=0.0), show_progress=False)
    return resolve(parse(text), fetching)


@pytest.mark.parametrize(
    "text", [AIR, f"civitai:{VERSION}", f"urn:air:sdxl:checkpoint:civitai:{MODEL}"]
)
def test_a_version_is_fetched_with_what_is_said_of_it(
    server: Server, tmp_path: Path, text: str
) -> None:
    Published(BODY).on(server)
    found = located(tmp_path, text)
    digest = hashlib.sha256(BODY).hexdigest()
    assert found.path.name == "paper.safetensors"
    assert found.path.read_bytes() == BODY
    assert found.origin == Source("civitai", f"civitai:{VERSION}", str(VERSION), digest)
    assert found.release == Release(VERSION, "Paper v2.0", ("ink wash", "paper"), "Illustrious")


def test_a_lying_file_is_refused(server: Server, tmp_path: Path) -> None:
    path = Published(BODY).on(server)
    server.contents[path].body = BODY[::-1]
    with pytest.raises(SourceError, match="its SHA-256 is"):
        located(tmp_path)


@pytest.mark.parametrize("host", ["http://[", "ftp://civitai.com", "file:///etc", "https:///", "x"])
def test_an_address_that_no_file_comes_from_is_refused(
    server: Server, tmp_path: Path, host: str
) -> None:
    Published(BODY, host=host).on(server)
    with pytest.raises(SourceError, match="is no address that a file comes from"):
        located(tmp_path)


def test_other_files_of_the_version_are_passed_over(server: Server, tmp_path: Path) -> None:
    other = {"downloadUrl": f"{server.url}/none", "type": "Model"}
    files: list[dict[str, object]] = [
        {**other, "name": "vae.safetensors", "type": "VAE", "primary": True},
        {**other, "name": "paper.ckpt"},
        {**other, "name": "second.safetensors"},
    ]
    Published(BODY, files=files).on(server)
    assert located(tmp_path).path.name == "paper.safetensors"


def test_a_token_goes_to_civitai_only(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Published(BODY, token="right").on(server)
    with pytest.raises(SourceError, match="put a token of yours into CIVITAI_TOKEN"):
        located(tmp_path)
    monkeypatch.setenv("CIVITAI_TOKEN", "right")
    assert located(tmp_path).path.read_bytes() == BODY
    assert server.gets(path)[-1].headers["authorization"] == "Bearer right"
    elsewhere = Published(BODY, host=server.other_url).on(server)
    located(tmp_path / "other")
    assert "authorization" not in server.gets(elsewhere)[-1].headers


def test_a_pickle_is_refused_by_name(server: Server, tmp_path: Path) -> None:
    path = Published(BODY, name="paper.ckpt").on(server)
    with pytest.raises(SourceError, match=r"paper\.ckpt: weights in Python's pickle format"):
        located(tmp_path)
    assert not server.gets(path)


def test_a_version_of_another_model_is_refused(server: Server, tmp_path: Path) -> None:
    Published(BODY).on(server)
    with pytest.raises(SourceError, match=f"version {VERSION} is of model {MODEL}, Paper"):
        located(tmp_path, f"urn:air:sdxl:checkpoint:civitai:7@{VERSION}")


def test_what_is_not_there_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"/api/v1/model-versions/2514310: there is no such"):
        located(tmp_path)


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    Published(BODY).on(server)
    asked = f"/api/v1/model-versions/{VERSION}"
    server.contents[asked].refusals = [(429, {"Retry-After": "0"})]
    assert located(tmp_path).path.read_bytes() == BODY
    assert [item.status for item in server.gets(asked)] == [429, 200]


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"id": 1}'])
def test_an_answer_of_another_shape_is_named(server: Server, tmp_path: Path, answer: bytes) -> None:
    server.contents[f"/api/v1/model-versions/{VERSION}"] = Content(
        answer, content_type="application/json"
    )
    with pytest.raises(SourceError, match="not what Civitai's API answers") as raised:
        located(tmp_path)
    assert "\n" not in str(raised.value)
