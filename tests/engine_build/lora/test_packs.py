"""Packs come whole or not at all, and what cannot be one is refused with what it seems to be."""

import errno
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine_build.lora.packs import LoraRequest, add_pack, remove_pack
from runtime.errors import PackageError, SourceError
from runtime.package.manifest import ModelPackage
from runtime.package.pack import FACTORS_NAME, PACK_NAME
from runtime.package.shelf import LoraShelf
from tests.tiny.lora_files import KOHYA, LoraWriter, Spelling

LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
WIDTH = 48


def linear(writer: LoraWriter, package: ModelPackage) -> LoraWriter:
    shape = package.manifest.roles["denoiser"].parameters[f"{LINEAR}.weight"].shape
    writer.lora(LINEAR, shape, 2, 1.0)
    return writer


@pytest.fixture
def good(demo: ModelPackage, tmp_path: Path) -> Path:
    """A file that fits."""
    return linear(LoraWriter(), demo).save(tmp_path / "My style (v2).safetensors")


def test_a_pack_says_what_it_is(demo: ModelPackage, good: Path) -> None:
    request = LoraRequest(good, "style.safetensors", triggers=" ink, wash ", weight=0.8)
    record = add_pack(demo, request).record
    assert (record.id, record.name) == ("My_style_v2", "My_style_v2")
    assert (record.triggers, record.weight, record.trigger_weight) == ("ink, wash", 0.8, 0.5)
    assert record.source.reference == "style.safetensors"
    assert [pack.record for pack in LoraShelf(demo).packs()] == [record]


def test_whoever_serves_the_model_may_read_a_pack(demo: ModelPackage, good: Path) -> None:
    pack = add_pack(demo, LoraRequest(good, "a"))
    assert {path.stat().st_mode & 0o444 for path in (pack.path, *pack.path.iterdir())} == {0o444}


def test_what_the_trainer_wrote_is_the_default(demo: ModelPackage, tmp_path: Path) -> None:
    metadata = {"modelspec.title": "Ink", "modelspec.trigger_phrase": "ink wash"}
    path = linear(LoraWriter(), demo).save(tmp_path / "a.safetensors", metadata)
    record = add_pack(demo, LoraRequest(path, "a")).record
    assert (record.name, record.triggers) == ("Ink", "ink wash")


def test_layers_that_fit_nothing_are_listed(demo: ModelPackage, tmp_path: Path) -> None:
    writer = linear(LoraWriter(), demo)
    writer.lora("down_blocks.9.resnets.0.conv1", (8, 8, 3, 3), 2, 1.0)
    writer.add("down_blocks.9", ".weird", 8)
    writer.add("down_blocks.9.resnets.0.conv2", ".lora_down.weight", 2, 8)
    record = add_pack(demo, LoraRequest(writer.save(tmp_path / "a.safetensors"), "a")).record
    assert record.not_covered == (
        "lora_unet_down_blocks_9.weird",
        "lora_unet_down_blocks_9_resnets_0_conv1",
        "lora_unet_down_blocks_9_resnets_0_conv2",
    )
    assert len(record.targets) == 1


def test_a_pack_can_go_and_come_while_it_is_listed(demo: ModelPackage, good: Path) -> None:
    shelf = LoraShelf(demo)
    assert shelf.packs() == ()
    first = add_pack(demo, LoraRequest(good, "a", id="ink"))
    assert shelf.packs() == (first,)
    assert shelf.packs()[0] is shelf.packs()[0]
    remove_pack(demo, "ink")
    assert shelf.packs() == ()
    second = add_pack(demo, LoraRequest(good, "a", id="ink", weight=0.5))
    assert shelf.packs() == (second,)
    assert second != first
    assert sorted(path.name for path in (demo.path / "loras").iterdir()) == [".graphs", "ink"]


def test_a_path_is_no_id_of_a_pack(demo: ModelPackage, good: Path, tmp_path: Path) -> None:
    add_pack(demo, LoraRequest(good, "a", id="ink"))
    mine = tmp_path / "mine"
    for path in (mine, demo.path / "loras" / "ink" / "sub"):
        path.mkdir()
    for wrong in (str(mine), "ink/sub", "../loras/ink", ""):
        with pytest.raises(PackageError, match=r"has no LoRA .* \(found: ink\)"):
            remove_pack(demo, wrong)
    assert mine.is_dir()


def test_an_id_is_taken_once(demo: ModelPackage, good: Path) -> None:
    add_pack(demo, LoraRequest(good, "a", id="ink"))
    with pytest.raises(PackageError, match="ink: already there; remove it first"):
        add_pack(demo, LoraRequest(good, "a", id="ink"))
    with pytest.raises(PackageError, match=r"demo has no LoRA 'pen' \(found: ink\)"):
        remove_pack(demo, "pen")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def test_damage_is_found(demo: ModelPackage, good: Path, caplog: pytest.LogCaptureFixture) -> None:
    pack = add_pack(demo, LoraRequest(good, "a", id="ink"))
    damage(pack.path / FACTORS_NAME)
    with pytest.raises(PackageError, match=r"factors\.safetensors: changed, sha256") as damaged:
        pack.factors()
    assert str(damaged.value).endswith(": engine-build lora add REF --model demo --id ink")
    damage(pack.path / PACK_NAME)
    with caplog.at_level(logging.WARNING):
        assert LoraShelf(demo).packs() == ()
    assert "pack.json: damaged" in caplog.text


Writing = Callable[[LoraWriter], None]


def _other_shape(writer: LoraWriter) -> None:
    writer.lora(LINEAR, (320, 320), 2, 1.0)


def _stable_diffusion_1(writer: LoraWriter) -> None:
    writer.spelling = Spelling("lora_te_")
    writer.lora("text_model.encoder.layers.11.self_attn.q_proj", (768, 768), 2, 1.0)


def _flux(writer: LoraWriter) -> None:
    writer.lora("double_blocks.0.img_attn.qkv", (WIDTH, WIDTH), 2, 1.0)


def _zimage(writer: LoraWriter) -> None:
    writer.spelling = Spelling("diffusion_model.", False, ".lora_A.weight", ".lora_B.weight")
    writer.lora("layers.0.attention.to_q", (WIDTH, WIDTH), 2, 1.0)


def _checkpoint(writer: LoraWriter) -> None:
    writer.tensors["model.diffusion_model.out.2.weight"] = writer.random(4, 4)


def _embedding(writer: LoraWriter) -> None:
    writer.tensors["clip_g"] = writer.random(2, 1280)


@pytest.mark.parametrize(
    ("write", "seems"),
    [
        (_other_shape, "a LoRA for a UNet of Stable Diffusion's kind"),
        (_stable_diffusion_1, "a LoRA for Stable Diffusion 1 or 2"),
        (_flux, "a LoRA for Flux or Chroma"),
        (_zimage, "a LoRA for Z-Image"),
        (_checkpoint, "a checkpoint"),
        (_embedding, "a textual inversion embedding; add it with: engine-build embedding add"),
    ],
)
def test_a_file_for_another_model_is_refused(
    demo: ModelPackage, tmp_path: Path, write: Writing, seems: str
) -> None:
    writer = LoraWriter(KOHYA)
    write(writer)
    path = writer.save(tmp_path / "other.safetensors")
    with pytest.raises(SourceError, match=f"other.safetensors: .*{seems}"):
        add_pack(demo, LoraRequest(path, "other"))
    assert LoraShelf(demo).packs() == ()
    assert not (demo.path / "loras").exists()


def test_what_the_trainer_says_of_its_model_is_told(demo: ModelPackage, tmp_path: Path) -> None:
    writer = LoraWriter()
    _flux(writer)
    path = writer.save(tmp_path / "a.safetensors", {"ss_base_model_version": "flux1"})
    with pytest.raises(SourceError, match="a LoRA that says that it was made for flux1"):
        add_pack(demo, LoraRequest(path, "a"))


def test_what_is_no_file_of_tensors_is_refused(demo: ModelPackage, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    (tmp_path / "b.safetensors").write_bytes(b"no tensors")
    for name, detail in (
        ("a.pt", "other formats can run code"),
        ("b.safetensors", "no safetensors file"),
        ("c.safetensors", "there is no such file"),
    ):
        with pytest.raises(SourceError, match=detail):
            add_pack(demo, LoraRequest(tmp_path / name, name))


@pytest.mark.parametrize("ending", [".lora_down.weight", ".scalar", ".oft_blocks", ".diff"])
def test_names_that_no_terminal_shows_are_escaped(
    demo: ModelPackage, tmp_path: Path, ending: str
) -> None:
    """Of a file with names of any kind, the message is one line."""
    writer = LoraWriter()
    writer.tensors[f"a\nb\x1b[2J{ending}"] = writer.random(4, 4)
    path = writer.save(tmp_path / "a.safetensors", {"ss_base_model_version": "x\ny"})
    with pytest.raises(SourceError) as refused:
        add_pack(demo, LoraRequest(path, "a"))
    assert str(refused.value).isprintable()


def test_numbers_that_are_not_finite_are_refused(demo: ModelPackage, tmp_path: Path) -> None:
    writer = linear(LoraWriter(), demo)
    next(iter(writer.tensors.values()))[0, 0] = torch.nan
    with pytest.raises(SourceError, match="holds numbers that are not finite"):
        add_pack(demo, LoraRequest(writer.save(tmp_path / "a.safetensors"), "a"))


def test_the_same_layer_twice_is_refused(demo: ModelPackage, tmp_path: Path) -> None:
    writer = linear(LoraWriter(), demo)
    writer.spelling = Spelling("unet.", False)
    linear(writer, demo)
    with pytest.raises(SourceError, match="are the same factor of the same layer"):
        add_pack(demo, LoraRequest(writer.save(tmp_path / "a.safetensors"), "a"))


def test_a_package_that_cannot_be_written_says_where_to_add_it(
    demo: ModelPackage, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the site-packages of the system: root may write there all the same."""

    def refuse(**_: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    remedy = f"Read-only file system.*copy.*cp -r {demo.path} engines/"
    with pytest.raises(PackageError, match=remedy):
        add_pack(demo, LoraRequest(good, "style.safetensors"))
