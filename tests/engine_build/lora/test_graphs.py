"""Adaptable graphs are there before a pack is, fit their package, and are written once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from engine_build.cli import run
from engine_build.lora.graphs import prepare
from engine_build.lora.packs import LoraRequest, add_pack, remove_pack
from runtime.errors import PackageError
from runtime.package.adaptable import RECORD_NAME, adaptable_graphs, graphs_folder
from runtime.package.file_record import record_file
from runtime.package.manifest import ModelPackage
from runtime.package.shelf import LoraShelf
from tests.tiny.lora_files import LoraWriter

LAYER = "mid_block.attentions.0.proj_in"
REMEDY = "write the graphs with: engine-build lora prepare --model demo$"


def with_hash_of(package: ModelPackage, path: Path) -> ModelPackage:
    """The package, its manifest true to a file that was changed."""
    files = {**package.manifest.files, path.name: record_file(path)}
    return replace(package, manifest=replace(package.manifest, files=files))


def content(package: ModelPackage) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in graphs_folder(package).iterdir()}


def test_a_pack_comes_with_the_graphs_that_it_is_drawn_with(
    demo: ModelPackage, tmp_path: Path
) -> None:
    writer = LoraWriter()
    shape = demo.manifest.roles["denoiser"].parameters[f"{LAYER}.weight"].shape
    writer.lora(LAYER, shape, 2, 1.0)
    request = LoraRequest(writer.save(tmp_path / "ink.safetensors"), "ink")
    pack = add_pack(demo, request)
    assert LoraShelf(demo).packs() == (pack,)
    assert adaptable_graphs(demo).keys() == {"denoiser", "text_encoder", "text_encoder_2"}
    remove_pack(demo, "ink")
    assert LoraShelf(demo).packs() == ()
    with pytest.raises(PackageError, match=r"has no LoRA '\.graphs' \(found: none\)"):
        remove_pack(demo, ".graphs")
    assert not prepare(demo)


def test_every_parameter_is_an_input(demo: ModelPackage) -> None:
    prepare(demo)
    for role, path in adaptable_graphs(demo).items():
        own = onnx.load(demo.file(demo.manifest.roles[role].graph), load_external_data=False)
        graph = onnx.load(path, load_external_data=False).graph
        record = demo.manifest.roles[role]
        weights = [each.initializer for each in record.parameters.values()]
        inputs = [each.name for each in graph.input]
        assert inputs[: len(record.inputs)] == [each.name for each in own.graph.input]
        assert inputs[len(record.inputs) :] == weights
        # Among them every weight stays where the package has it.
        assert list(graph.initializer) == list(own.graph.initializer)
        assert list(graph.node) == list(own.graph.node)


def test_graphs_are_written_once_and_the_packages_own_files_stay(
    demo: ModelPackage, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {path: path.read_bytes() for path in demo.path.iterdir()}
    asked = ["lora", "prepare", "--model", "demo", "--engines", str(demo.path.parent)]
    assert run(asked) == 0
    written = content(demo)
    assert run(asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "demo: graphs written",
        "demo: its graphs are there already",
    ]
    assert content(demo) == written
    assert {path: path.read_bytes() for path in own} == own
    readable = [path.stat().st_mode & 0o444 for path in graphs_folder(demo).iterdir()]
    assert set(readable) == {0o444}


def _missing_record(folder: Path) -> None:
    (folder / RECORD_NAME).unlink()


def _damaged_record(folder: Path) -> None:
    record = folder / RECORD_NAME
    record.write_bytes(record.read_bytes().replace(b'"size_bytes": ', b'"size_bytes": 1'))


def _missing_graph(folder: Path) -> None:
    (folder / "text_encoder.onnx").unlink()


def _damaged_graph(folder: Path) -> None:
    graph = folder / "denoiser.onnx"
    changed = bytearray(graph.read_bytes())
    changed[-9] ^= 1
    graph.write_bytes(changed)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (_missing_record, rf"{RECORD_NAME}: not there, .* drawn on the CPU"),
        (_damaged_record, rf"{RECORD_NAME}: damaged"),
        (_missing_graph, r"text_encoder\.onnx: gone"),
        (_damaged_graph, r"denoiser\.onnx: changed, sha256"),
    ],
)
def test_what_is_missing_or_damaged_is_named_and_written_again(
    demo: ModelPackage, spoil: Callable[[Path], None], fault: str
) -> None:
    prepare(demo)
    whole = content(demo)
    spoil(graphs_folder(demo))
    with pytest.raises(PackageError, match=f"{fault}.*{REMEDY}"):
        adaptable_graphs(demo)
    assert prepare(demo)
    assert content(demo) == whole


def test_graphs_of_another_build_are_refused_and_written_again(demo: ModelPackage) -> None:
    """As after a folder `loras/` was kept over a build of the same model."""
    prepare(demo)
    graph = demo.file("text_encoder.onnx")
    model = onnx.load(graph, load_external_data=False)
    model.doc_string = "built again"
    onnx.save(model, graph)
    rebuilt = with_hash_of(demo, graph)
    with pytest.raises(PackageError, match=f"made of another text_encoder than demo.*{REMEDY}"):
        adaptable_graphs(rebuilt)
    assert prepare(rebuilt)
    assert adaptable_graphs(rebuilt).keys() == {"denoiser", "text_encoder", "text_encoder_2"}


def test_of_a_damaged_graph_none_is_made(demo: ModelPackage) -> None:
    _damaged_graph(demo.path)
    with pytest.raises(PackageError, match=r"denoiser\.onnx: changed.*build the package again"):
        prepare(demo)
    with pytest.raises(PackageError, match=RECORD_NAME):
        adaptable_graphs(demo)
