"""`engine-build embedding`, and the files of trainers that it reads or refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine_build.cli import run
from engine_build.embedding.packs import add_embedding, remove_embedding
from engine_build.lora.inversions import read_embedding
from engine_build.lora.packs import LoraRequest, add_pack
from runtime.errors import PackageError, SourceError
from runtime.package.adaptable import adaptable_graphs
from runtime.package.inversion import FOLDER, RECORD_NAME, VECTORS_NAME, table_of
from runtime.package.manifest import ModelPackage
from runtime.package.shelf import InversionShelf, LoraShelf
from tests.engine_build.checkpoint.hostile import hostile_file, hostile_tensors
from tests.hostile import put, refusal
from tests.inputs import Inputs
from tests.tiny.embedding_files import save, vectors

Tensors = dict[str, torch.Tensor]


def widths(package: ModelPackage) -> tuple[int, int]:
    manifest = package.manifest
    first, second = (
        manifest.roles[role].parameters[table_of(manifest, role)].shape[1]
        for role in ("text_encoder", "text_encoder_2")
    )
    return first, second


@pytest.fixture
def ink(demo: ModelPackage) -> Tensors:
    """Three vectors for the demo's encoders."""
    return vectors(3, widths(demo))


FORMS: dict[str, Callable[[Tensors], Tensors]] = {
    "kohya": lambda own: own,
    "fp16": lambda own: {key: value.half() for key, value in own.items()},
    "bf16": lambda own: {key: value.bfloat16() for key, value in own.items()},
    "diffusers, advanced": lambda own: {
        "text_encoders_0": own["clip_l"],
        "text_encoders_1": own["clip_g"],
    },
    "a single vector": lambda own: {key: value[0].clone() for key, value in own.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_files(demo: ModelPackage, ink: Tensors, tmp_path: Path, form: str) -> None:
    made = FORMS[form](ink)
    found = add_embedding(demo, save(tmp_path / "ink.safetensors", made), None)
    stored = list(made.values())
    for role, tensor in zip(("text_encoder", "text_encoder_2"), stored, strict=True):
        expected = tensor.float().reshape(-1, tensor.shape[-1]).numpy()
        np.testing.assert_array_equal(found.of(role), expected)
    assert (found.name, found.vectors) == ("ink", len(expected))
    assert InversionShelf(demo).inversions() == (found,)
    assert {"text_encoder", "text_encoder_2"} <= set(adaptable_graphs(demo))


REFUSED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "stable diffusion 1": (
        lambda _: {"emb_params": torch.zeros(2, 768)},
        r"an embedding of Stable Diffusion 1.x, with vectors 768 wide alone; SDXL needs clip_l",
    ),
    "stable diffusion 2": (
        lambda _: {"<ink>": torch.zeros(1024)},
        r"an embedding of Stable Diffusion 2.x",
    ),
    "one file of diffusers' two": (
        lambda _: {"<ink>": torch.zeros(2, 1280)},
        "of SDXL's second text encoder, with vectors 1280 wide alone; SDXL needs clip_l and clip_g",
    ),
    "one encoder": (
        lambda own: {"clip_g": own["clip_g"]},
        "has clip_g, expected clip_l and clip_g",
    ),
    "twice": (
        lambda own: {**own, "text_encoders_0": own["clip_l"].clone()},
        "expected clip_l and clip_g, once each",
    ),
    "unlike counts": (
        lambda own: {**own, "clip_g": own["clip_g"][:2].clone()},
        "has 3 and 2 vectors",
    ),
    "too many": (
        lambda own: {key: value.repeat(26, 1) for key, value in own.items()},
        r"78 and 78 vectors, expected as many in both, from 1 to 30",
    ),
    "another width": (
        lambda own: {**own, "clip_l": torch.zeros(3, 7)},
        "vectors of text_encoder are 7 wide, expected",
    ),
    "three axes": (lambda own: {**own, "clip_l": torch.zeros(1, 3, 7)}, r"clip_l is \[1, 3, 7\]"),
    "a number": (lambda own: {**own, "clip_l": torch.tensor(1.0)}, r"clip_l is \[\], expected"),
    "nothing": (lambda own: {**own, "clip_l": torch.zeros(0, 7)}, r"clip_l is \[0, 7\]"),
    "not finite": (lambda own: {**own, "clip_l": own["clip_l"] / 0}, "clip_l is not finite"),
    "onetrainer's output": (
        lambda own: {**own, "clip_l_out": own["clip_l"].clone()},
        "clip_l_out acts behind the text encoder",
    ),
    "a lora": (
        lambda _: {"lora_unet_x.lora_up.weight": torch.zeros(2, 2)},
        "a LoRA, not an embedding; add it with: engine-build lora add",
    ),
    "a lora with embeddings": (
        lambda own: {"bundle_emb.ink.clip_l": own["clip_l"]},
        "add it with: engine-build lora add",
    ),
    "integers": (
        lambda own: {**own, "clip_l": own["clip_l"].to(torch.uint8)},
        "clip_l is stored as U8, expected",
    ),
    "empty": (lambda _: {}, "ink has no tensors, expected clip_l"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_refused(
    demo: ModelPackage, ink: Tensors, tmp_path: Path, case: str
) -> None:
    changed, message = REFUSED[case]
    with pytest.raises(SourceError, match=message):
        add_embedding(demo, save(tmp_path / "ink.safetensors", changed(ink)), None)
    assert InversionShelf(demo).inversions() == ()
    assert not list(demo.path.glob(f"{FOLDER}/*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ink.pt", "a pickled file, which can run code"),
        ("ink.bin", "a pickled file, which can run code"),
        ("ink.png", "expected a .safetensors file"),
        ("gone.safetensors", "there is no such file"),
        ("torn.safetensors", "torn.safetensors"),
    ],
)
def test_files_that_are_no_safetensors(
    demo: ModelPackage, tmp_path: Path, name: str, message: str
) -> None:
    if name != "gone.safetensors":
        (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(SourceError, match=message):
        add_embedding(demo, tmp_path / name, None)


def test_add_list_and_remove(
    demo: ModelPackage, ink: Tensors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "Bad hands v2.safetensors", ink)
    place = ["--model", "demo", "--engines", str(demo.path.parent)]
    assert run(["embedding", "add", str(path), *place]) == 0
    assert run(["embedding", "add", str(path), "--id", "ink", *place]) == 0
    capsys.readouterr()
    assert run(["embedding", "list", *place]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in listed] == ["Bad_hands_v2", "ink"]
    assert "3 vectors, in a prompt ink or embedding:ink" in listed[1]
    assert run(["embedding", "add", str(path), "--id", "INK", *place]) == 1
    assert "already there" in capsys.readouterr().err
    assert run(["embedding", "remove", "ink", *place]) == 0
    assert [each.name for each in InversionShelf(demo).inversions()] == ["Bad_hands_v2"]
    assert run(["embedding", "remove", "ink", *place]) == 1
    assert "has no embedding 'ink' (found: Bad_hands_v2)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["..", "../loras", ".", ""])
def test_nothing_but_an_embedding_is_removed(demo: ModelPackage, name: str) -> None:
    with pytest.raises(PackageError, match="has no embedding"):
        remove_embedding(demo, name)
    assert demo.path.is_dir()


def test_damaged_packs_are_left_out(
    demo: ModelPackage, ink: Tensors, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = add_embedding(demo, save(tmp_path / "ink.safetensors", ink), None)
    content = found.path.read_bytes()
    found.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PackageError, match="changed, sha256"):
        found.of("text_encoder")
    record = demo.path / FOLDER / "ink" / RECORD_NAME
    record.write_text(record.read_text().replace("ink", "ick"))
    assert InversionShelf(demo).inversions() == ()
    assert "its digest does not fit" in caplog.text


def lora(package: ModelPackage, tensors: Tensors) -> Tensors:
    """A LoRA of one layer of the demo's first text encoder, with more tensors."""
    record = package.manifest.roles["text_encoder"].parameters
    name = next(each for each in record if each.endswith("layers.0.self_attn.q_proj.weight"))
    out, inputs = record[name].shape
    module = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
    return {
        f"{module}.lora_up.weight": torch.ones(out, 1),
        f"{module}.lora_down.weight": torch.ones(1, inputs),
        **tensors,
    }


def test_a_lora_brings_its_embeddings(demo: ModelPackage, ink: Tensors, tmp_path: Path) -> None:
    tensors = {f"bundle_emb.my.ink v2.{key}": value for key, value in ink.items()}
    path = tmp_path / "lit.safetensors"
    save_file(lora(demo, tensors), path)
    pack = add_pack(demo, LoraRequest(path, "lit"))
    assert pack.record.not_covered == ()
    assert LoraShelf(demo).packs() == (pack,)
    (found,) = pack.inversions
    assert (found.name, found.vectors) == ("my.ink v2", 3)
    np.testing.assert_array_equal(found.of("text_encoder_2"), ink["clip_g"].numpy())
    assert found.path == pack.path / VECTORS_NAME


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"bundle_emb.ink.string_to_param.*": torch.zeros(2, 768)},
            "ink is an embedding of Stable Diffusion 1.x",
        ),
        ({"bundle_emb.ink.clip_l": torch.zeros(2, 9)}, "ink has clip_l, expected clip_l and"),
        ({"bundle_emb..clip_l": torch.zeros(2, 9)}, "an embedding without a name"),
    ],
)
def test_a_lora_is_added_without_embeddings_that_do_not_fit(
    demo: ModelPackage,
    tmp_path: Path,
    tensors: Tensors,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "lit.safetensors"
    save_file(lora(demo, tensors), path)
    pack = add_pack(demo, LoraRequest(path, "lit"))
    assert LoraShelf(demo).packs() == (pack,)
    assert pack.record.not_covered == tuple(sorted(tensors))
    assert pack.inversions == ()
    assert message in caplog.text
    assert "the LoRA is added without the embeddings in its file" in caplog.text


WORDS = (
    "clip_l",
    "clip_g",
    "text_encoders_0",
    "text_encoders_1",
    "emb_params",
    "string_to_param.*",
)


@pytest.mark.fuzz
def test_a_file_that_lies_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, inputs: Inputs
) -> None:
    path = tmp_path_factory.mktemp("lying") / "lying.safetensors"
    sound = save(path, vectors(3, (4, 6))).read_bytes()
    assert read_embedding(path, "ink", 75).word.vectors == 3

    def read(path: Path) -> None:
        assert 1 <= read_embedding(path, "ink", 75).word.vectors <= 75

    for chance in inputs:
        near = chance.randrange(3)
        put(path, hostile_tensors(chance, sound, WORDS) if near else hostile_file(chance, WORDS))
        refusal(read, path)
