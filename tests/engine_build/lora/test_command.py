"""`engine-build lora` as a person types it."""

import hashlib
import json
from pathlib import Path

import pytest

from engine_build.cli import run
from runtime.package.manifest import ModelPackage
from runtime.package.shelf import LoraShelf
from tests.engine_build.fetch.civitai import MODEL, VERSION, Published
from tests.engine_build.fetch.hub import COMMIT, publish
from tests.engine_build.fetch.server import Content, Server
from tests.tiny.lora_files import LoraWriter

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def test_add_list_remove(
    demo: ModelPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = LoraWriter()
    writer.lora(LINEAR, demo.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape, 2, 1)
    writer.lora("down_blocks.9.conv", (4, 4), 2, 1)
    file = str(writer.save(tmp_path / "ink.safetensors"))
    where = ["--model", "demo", "--engines", str(demo.path.parent)]

    assert run(["lora", "add", file, *where, "--trigger", "ink wash", "--weight", "0.8"]) == 0
    shown = capsys.readouterr()
    line = "ink: ink, lora on 1 layers of denoiser, weight 0.8; triggers: ink wash\n"
    assert shown.out == line
    assert "1 of the file's layers are not in demo" in shown.err
    assert "lora_unet_down_blocks_9_conv" in shown.err

    assert run(["lora", "list", *where]) == 0
    assert capsys.readouterr().out == line
    assert run(["lora", "add", file, *where]) == 1
    assert "already there" in capsys.readouterr().err
    assert run(["lora", "remove", "ink", *where]) == 0
    capsys.readouterr()
    assert run(["lora", "list", *where]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "metadata",
    [
        {"modelspec.title": 5},
        {"modelspec.trigger_phrase": ["a", "b"]},
        {"lora_adapter_metadata": {"unet.r": 4}},
        {"modelspec.title": "\ud800", "ss_output_name": None},
        {"modelspec.title": "two\nlines \x1b[31m"},
        [1],
    ],
)
def test_metadata_that_is_no_text_costs_no_lora(
    demo: ModelPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str], metadata: object
) -> None:
    writer = LoraWriter()
    writer.lora(LINEAR, demo.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape, 2, 1)
    path = writer.save(tmp_path / "ink.safetensors")
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps({**json.loads(content[8:end]), "__metadata__": metadata}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    where = ["--model", "demo", "--engines", str(demo.path.parent)]
    assert run(["lora", "add", str(path), *where]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()


def test_civitai_gives_it_a_name_an_id_and_trigger_words(
    demo: ModelPackage, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LoraWriter()
    writer.lora(LINEAR, demo.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape, 2, 1)
    Published(writer.save(tmp_path / "ink.safetensors").read_bytes()).on(server)
    monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
    monkeypatch.setenv("CALOTYPE_CACHE", str(tmp_path / "cache"))
    reference = f"urn:air:sdxl:lora:civitai:{MODEL}@{VERSION}"
    add = ["lora", "add", reference, "--model", "demo", "--engines", str(demo.path.parent)]
    assert run([*add, "--quiet"]) == 0
    assert run([*add, "--quiet", "--id", "own", "--trigger", "my words"]) == 0
    packs = {pack.record.id: pack.record for pack in LoraShelf(demo).packs()}
    given, own = packs[f"civitai_{VERSION}"], packs["own"]
    assert (given.name, given.triggers) == ("Paper v2.0", "ink wash, paper")
    assert (own.name, own.triggers) == ("Paper v2.0", "my words")
    assert given.source.reference == f"civitai:{VERSION}"


@pytest.fixture
def hosts(
    demo: ModelPackage, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """One LoRA in a folder and on every host that a reference can name: where these are."""
    writer = LoraWriter()
    writer.lora(LINEAR, demo.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape, 2, 1)
    content = writer.save(tmp_path / "ink.safetensors").read_bytes()
    server.contents["/files/ink.safetensors?key=1"] = Content(content)
    publish(server, "owner/lora", {"ink.safetensors": content})
    Published(content).on(server)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
    return {"folder": str(tmp_path), "server": server.url}


@pytest.mark.parametrize(
    ("reference", "identity"),
    [
        ("{folder}/ink.safetensors", "ink"),
        ("file://{folder}/ink.safetensors", "ink"),
        ("{server}/files/ink.safetensors?key=1", "ink"),
        ("owner/lora/ink.safetensors", "ink"),
        (f"owner/lora/ink.safetensors@{COMMIT}", "ink"),
        (f"urn:air:sdxl:lora:civitai:{MODEL}@{VERSION}", f"civitai_{VERSION}"),
        (f"urn:air:sdxl:lora:civitai:{MODEL}", f"civitai_{VERSION}"),
        (f"civitai:{VERSION}", f"civitai_{VERSION}"),
    ],
)
def test_it_is_added_from_wherever_it_lies(
    demo: ModelPackage, tmp_path: Path, hosts: dict[str, str], reference: str, identity: str
) -> None:
    command = ["lora", "add", reference.format(**hosts), "--model", "demo"]
    command += ["--engines", str(demo.path.parent), "--cache", str(tmp_path / "cache"), "--quiet"]
    assert run(command) == 0
    (pack,) = LoraShelf(demo).packs()
    assert pack.id == identity
    content = (tmp_path / "ink.safetensors").read_bytes()
    assert pack.record.source.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "flags", [["--weight", "2.1"], ["--trigger-weight", "-1"], ["--id", "a b"], []]
)
def test_a_wrong_command_line_ends_with_2(flags: list[str]) -> None:
    model = ["--model", "demo"] if flags else []
    with pytest.raises(SystemExit) as caught:
        run(["lora", "add", "a.safetensors", *model, *flags])
    assert caught.value.code == 2
