"""safetensors files read and copied without loading them, against the format's own library."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine_build.checkpoint.copies import copy_tensors
from engine_build.checkpoint.weights import (
    match_parameters,
    read_checkpoint,
    read_header,
    read_metadata,
)
from runtime.errors import SourceError

TENSORS = {
    "odd": torch.arange(7, dtype=torch.float16),
    "matrix": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "brain": torch.arange(5, dtype=torch.bfloat16),
    "scalar": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    return path


def test_the_header_says_what_lies_where(file: Path) -> None:
    header = read_header(file)
    assert header.keys() == TENSORS.keys()
    raw = file.read_bytes()
    for name, tensor in TENSORS.items():
        entry = header[name]
        assert entry.shape == tuple(tensor.shape)
        stored = raw[entry.offset : entry.offset + entry.size_bytes]
        assert stored == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def test_copies_are_the_same_tensors_under_their_new_names(file: Path, tmp_path: Path) -> None:
    header = read_header(file)
    target = tmp_path / "copy.safetensors"
    pieces: list[int] = []
    copied = copy_tensors({f"new.{name}": header[name] for name in TENSORS}, target, pieces.append)
    loaded = load_file(target)
    assert loaded.keys() == copied.keys() == {f"new.{name}" for name in TENSORS}
    for name, tensor in TENSORS.items():
        assert torch.equal(loaded[f"new.{name}"], tensor)
        assert loaded[f"new.{name}"].dtype == tensor.dtype
    assert sum(pieces) == sum(tensor.size_bytes for tensor in header.values())


def test_copied_tensors_are_aligned_to_their_items(file: Path, tmp_path: Path) -> None:
    copied = copy_tensors(read_header(file), tmp_path / "copy.safetensors", lambda _: None)
    assert min(tensor.offset for tensor in copied.values()) % 64 == 0
    for name, tensor in copied.items():
        assert tensor.offset % TENSORS[name].itemsize == 0


def test_parts_of_a_tensor_are_copied_as_tensors(tmp_path: Path) -> None:
    path, target = tmp_path / "fused.safetensors", tmp_path / "parts.safetensors"
    fused = torch.arange(24, dtype=torch.bfloat16).reshape(6, 4)
    save_file({"first": torch.ones(3), "fused": fused}, path)
    stored = read_header(path)["fused"]
    parts = {
        "rows": stored.rows(2, 4),
        "swapped": stored.swapped(),
        "transposed": stored.transposed(),
    }
    copied = copy_tensors(parts, target, lambda _: None)
    loaded = load_file(target)
    assert torch.equal(loaded["rows"], fused[2:4])
    assert torch.equal(loaded["swapped"], torch.cat([fused[3:], fused[:3]]))
    assert torch.equal(loaded["transposed"], fused.T)
    assert {name: tensor.shape for name, tensor in copied.items()} == {
        name: tensor.shape for name, tensor in parts.items()
    }


def test_what_a_file_says_of_itself_is_read(file: Path, tmp_path: Path) -> None:
    assert read_metadata(file) == {"format": "pt"}
    save_file(TENSORS, tmp_path / "silent.safetensors")
    assert read_metadata(tmp_path / "silent.safetensors") == {}


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_file({"a": torch.zeros(2)}, first)
    save_file({"b": torch.ones(3)}, second)
    checkpoint = read_checkpoint([first, second])
    assert {name: tensor.path for name, tensor in checkpoint.tensors.items()} == {
        "a": first,
        "b": second,
    }


def header_bytes(header: object) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded


DAMAGED = {
    "empty": (b"", "no safetensors file: it is empty"),
    "short": (b"\x00\x01", "no safetensors file: it begins with"),
    "pickle": (b"PK\x03\x04" + bytes(64), "a ZIP archive"),
    "not JSON": (struct.pack("<Q", 4) + b"{{{{", "no safetensors file, or damaged"),
    "not an object": (header_bytes([1, 2]), "no safetensors file, or damaged"),
    "no offsets": (header_bytes({"a": {"dtype": "F32", "shape": [1]}}), "damaged"),
    "wrong shape": (
        header_bytes({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}) + bytes(4),
        r"shape \[3\] of F32 does not fit bytes 0 to 4",
    ),
    "cut off": (
        header_bytes({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + bytes(4),
        "cut off, .* fetch it again",
    ),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_parameters_are_found_under_their_older_spelling(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"block.query.weight": torch.zeros(4, 4, 1, 1)}, path)
    matched = match_parameters(
        {"block.to_q.weight": (4, 4)},
        lambda name: (name, name.replace("to_q", "query")),
        read_checkpoint([path]),
    )
    name, tensor = matched["block.to_q.weight"]
    assert (name, tensor.shape) == ("block.to_q.weight", (4, 4))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (None, "the weights lack a.weight, which config.json asks for"),
        (torch.zeros(3, 2), r"a.weight is \[3, 2\], but config.json asks for \[2, 3\]"),
        (
            torch.zeros(2, 3, dtype=torch.float64),
            "a.weight is stored as F64, expected F32, F16, BF16",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, tensor: torch.Tensor | None, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"other": torch.zeros(1)} if tensor is None else {"a.weight": tensor}, path)
    with pytest.raises(SourceError, match=message):
        match_parameters({"a.weight": (2, 3)}, lambda name: (name,), read_checkpoint([path]))
