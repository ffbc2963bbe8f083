"""References as people write them, and their meaning."""

from pathlib import Path

import pytest

from engine_build.fetch.references import (
    CivitaiReference,
    HubReference,
    LocalReference,
    Reference,
    UrlReference,
    parse,
)
from runtime.errors import SourceError

DIGEST = "0123456789abcdef" * 4

MEANINGS: dict[str, Reference] = {
    "owner/name": HubReference("owner/name"),
    "owner/name@v1.0": HubReference("owner/name", revision="v1.0"),
    "owner/name@refs/pr/4": HubReference("owner/name", revision="refs/pr/4"),
    "owner/name/model.safetensors": HubReference("owner/name", "model.safetensors"),
    "owner/name/a/b.safetensors@main": HubReference("owner/name", "a/b.safetensors", "main"),
    "civitai:2514310": CivitaiReference(version=2514310),
    "urn:air:sdxl:checkpoint:civitai:827184@2514310": CivitaiReference(827184, 2514310),
    "urn:air:sdxl:lora:civitai:827184": CivitaiReference(827184),
    "https://host/a.safetensors": UrlReference("https://host/a.safetensors"),
    f"http://host:1/a?b=c#sha256={DIGEST.upper()}": UrlReference("http://host:1/a?b=c", DIGEST),
    "file:///a%20b/c.safetensors": LocalReference(Path("/a b/c.safetensors")),
    "/absolute/folder": LocalReference(Path("/absolute/folder")),
    "./owner/name": LocalReference(Path("owner/name")),
    "../name": LocalReference(Path("../name")),
    "name": LocalReference(Path("name")),
    "models/sdxl/unet": LocalReference(Path("models/sdxl/unet")),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_each_form_is_understood(text: str) -> None:
    assert parse(text) == MEANINGS[text]


def test_a_folder_that_is_there_wins_over_an_id_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse("owner/name") == LocalReference(Path("owner/name"))
    assert parse("owner/other") == HubReference("owner/other")


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse("~/sdxl") == LocalReference(Path("/home/somebody/sdxl"))


WRONG = {
    "": "is no reference",
    " ": "is no reference",
    "ftp://host/a.safetensors": "no known scheme",
    "https:///a.safetensors": "no valid URL",
    "https://host:port/a.safetensors": "no valid URL",
    "https://host/a b.safetensors": "no valid URL",
    "https://host/a.safetensors#sha256=12": "64 hex digits",
    f"https://host/a.safetensors#md5={DIGEST}": "expected #sha256=",
    "file://server/share": "no file of this machine",
    "civitai:latest": "'latest' is no id of Civitai",
    "urn:isbn:0451450523": "no AIR",
    "urn:air:sdxl:checkpoint:civitai:abc@1": "'abc' is no id of Civitai",
    "urn:air:sdxl:checkpoint:elsewhere:1@2": "AIRs of elsewhere are not known",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_reference_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SourceError) as raised:
        parse(text)
    assert WRONG[text] in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://host/model.ckpt?download=1",
        "owner/name/model.CKPT",
        "/models/model.pt",
        "file:///models/model.pth",
        "pytorch_model.bin",
    ],
)
def test_pickles_are_refused_by_name(text: str) -> None:
    with pytest.raises(SourceError, match=r"pickle format .* expected a \.safetensors file"):
        parse(text)
