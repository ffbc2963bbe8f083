"""Repositories of the Hub, from a server on loopback that speaks its protocol."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_build.fetch.connection import Patience
from engine_build.fetch.located import Fetching, Located
from engine_build.fetch.references import parse
from engine_build.fetch.resolve import resolve
from runtime.errors import SourceError
from tests.engine_build.fetch.hub import COMMIT, publish
from tests.engine_build.fetch.server import Server

REPOSITORY = "owner/pipeline"
INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "feature_extractor": [None, None],
    "force_zeros_for_empty_prompt": True,
}
SHARDS = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
WANTED = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"unet",
    "text_encoder/config.json": b"{}",
    "text_encoder/model.safetensors.index.json": json.dumps(SHARDS).encode(),
    "text_encoder/model-00001-of-00002.safetensors": b"text",
    "tokenizer/merges.txt": b"a b",
    "tokenizer/chat_template.jinja": b"{{ messages }}",
    "preview_decoder/config.json": b"{}",
    "preview_decoder/diffusion_pytorch_model.safetensors": b"tiny",
}
UNWANTED = {
    "README.md": b"about",
    "single_file.safetensors": b"all in one",
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "unet/onnx/config.json": b"{}",
    "unet/model.onnx": b"onnx",
    "text_encoder/model-00002-of-00002.safetensors": b"not in the index",
    "vae_1_0/config.json": b"{}",
}


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    publish(server, REPOSITORY, {**WANTED, **UNWANTED})
    return server


def located(cache: Path, text: str = REPOSITORY, *without: str) -> Located:
    fetching = Fetching(cache, Patience(attempts=2, pause_seconds=0.0), show_progress=False)
    return resolve(parse(text), fetching, frozenset(without))


def fetched(folder: Path) -> dict[str, bytes]:
    """All but the library's own notes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def test_just_what_a_build_reads_is_fetched_at_one_commit(hub: Server, tmp_path: Path) -> None:
    found = located(tmp_path)
    assert fetched(found.path) == WANTED
    assert (found.origin.kind, found.origin.reference) == ("hugging face", REPOSITORY)
    assert found.origin.revision == COMMIT
    assert all(COMMIT in item.path for item in hub.requests[1:])


def test_it_is_fetched_once(hub: Server, tmp_path: Path) -> None:
    first = located(tmp_path)
    asked = len(hub.requests)
    assert located(tmp_path, f"{REPOSITORY}@main").path == first.path
    assert [item.path for item in hub.requests[asked:]] == [
        f"/api/models/{REPOSITORY}/revision/main?blobs=true"
    ]


def test_weights_that_come_from_elsewhere_are_left_out(hub: Server, tmp_path: Path) -> None:
    part = fetched(located(tmp_path, REPOSITORY, "unet").path)
    assert WANTED.keys() - part.keys() == {"unet/diffusion_pytorch_model.safetensors"}
    assert fetched(located(tmp_path).path) == WANTED


def test_weights_are_resumed_and_checked(hub: Server, tmp_path: Path) -> None:
    path = f"/{REPOSITORY}/resolve/{COMMIT}/unet/diffusion_pytorch_model.safetensors"
    hub.contents[path].drops = [2]
    assert fetched(located(tmp_path / "a").path) == WANTED
    assert [item.status for item in hub.gets(path)] == [200, 206]
    hub.contents[path].body = b"tenu"
    with pytest.raises(SourceError, match="its SHA-256 is"):
        located(tmp_path / "b")


def test_one_network_is_a_repository_of_its_own(hub: Server, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": b"tiny"}
    publish(hub, "owner/taesd", {**files, "taesd_decoder.safetensors": b"", "a.pth": b""})
    assert fetched(located(tmp_path, "owner/taesd").path) == files


@pytest.mark.parametrize("text", ["owner/lora", "owner/lora/ink.safetensors"])
def test_one_file_is_fetched_by_its_hash(hub: Server, tmp_path: Path, text: str) -> None:
    publish(hub, "owner/lora", {"ink.safetensors": b"ink", "README.md": b""})
    found = located(tmp_path, text)
    assert found.path.name == "ink.safetensors"
    assert found.path.read_bytes() == b"ink"
    assert found.origin.reference == "owner/lora/ink.safetensors"
    assert found.origin.sha256 == hashlib.sha256(b"ink").hexdigest()


def test_a_token_is_wanted(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, REPOSITORY, WANTED, token="right")
    with pytest.raises(SourceError, match="HF_TOKEN"):
        located(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(SourceError, match="HF_TOKEN") as raised:
        located(tmp_path)
    assert "wrong" not in str(raised.value)
    monkeypatch.setenv("HF_TOKEN", "right")
    assert fetched(located(tmp_path).path) == WANTED


REFUSALS = {
    "GatedRepo": (403, "wants an agreement first; accept it on the model's page"),
    "RevisionNotFound": (404, "there is no revision 'main'"),
    "RepoNotFound": (404, "there is no such repository on the Hub and nothing of that name here"),
    "": (418, "the Hub answers 418"),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_said_plainly(hub: Server, tmp_path: Path, code: str) -> None:
    status, message = REFUSALS[code]
    content = hub.contents[f"/api/models/{REPOSITORY}/revision/main?blobs=true"]
    content.refusals = [(status, {"X-Error-Code": code})]
    with pytest.raises(SourceError) as raised:
        located(tmp_path, f"{REPOSITORY}@main")
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{REPOSITORY}@main: ")
    assert len(hub.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again(hub: Server, tmp_path: Path, status: int) -> None:
    hub.contents[f"/api/models/{REPOSITORY}?blobs=true"].refusals = [(status, {})]
    assert fetched(located(tmp_path).path) == WANTED


def test_a_hub_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(SourceError, match=r"the Hub cannot be reached .*; gave up after 2"):
        located(tmp_path)


@pytest.mark.parametrize(
    ("text", "files", "message"),
    [
        (f"{REPOSITORY}/none.safetensors", WANTED, f"no such file at commit {COMMIT}"),
        ("owner/two", {"a.safetensors": b"", "b.safetensors": b""}, "a.safetensors, b.safetensors"),
        ("owner/pickle", {"a.ckpt": b""}, r"\(found: none\)"),
        (
            "owner/lost",
            {
                "model_index.json": WANTED["model_index.json"],
                "text_encoder/model.safetensors.index.json": json.dumps(SHARDS).encode(),
            },
            "lists model-00001-of-00002.safetensors, which is not there",
        ),
    ],
)
def test_what_cannot_be_fetched_is_named(
    hub: Server, tmp_path: Path, text: str, files: dict[str, bytes], message: str
) -> None:
    publish(hub, "/".join(text.split("/")[:2]), files)
    with pytest.raises(SourceError, match=message):
        located(tmp_path, text)
