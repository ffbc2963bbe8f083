"""Whatever a header says, it is read, or refused in one line."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from engine_build.checkpoint.headers import _MOST_AXES, read_header, read_metadata
from runtime.errors import SourceError
from runtime.package.tensors import READABLE, map_tensors
from tests.engine_build.checkpoint.hostile import hostile_file
from tests.hostile import put, refusal
from tests.inputs import Inputs

SOUND = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers")


def _written(path: Path, header: object, content: bytes = bytes(64)) -> Path:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def check_file(path: Path) -> None:
    """A file that can be read in full, or an error in one line."""
    fault = refusal(read_header, path) or refusal(read_metadata, path)
    if fault is not None:
        assert fault.startswith(f"{path}: ")
        return
    header, metadata = read_header(path), read_metadata(path)
    assert all(isinstance(text, str) for pair in metadata.items() for text in pair)
    json.dumps([*header, metadata], ensure_ascii=False).encode()
    if all(tensor.dtype in READABLE for tensor in header.values()):
        mapped = map_tensors(path)
        assert mapped.keys() == header.keys()
        for name, tensor in mapped.items():
            assert tensor.fp32().shape == header[name].shape


@pytest.mark.fuzz
def test_a_hostile_header_is_read_or_refused_in_one_line(folder: Path, inputs: Inputs) -> None:
    path = folder / "hostile.safetensors"
    for chance in inputs:
        put(path, hostile_file(chance))
        check_file(path)


@pytest.mark.fuzz
def test_what_the_formats_own_library_reads_is_read(folder: Path, inputs: Inputs) -> None:
    path = folder / "both.safetensors"
    for chance in inputs:
        put(path, hostile_file(chance))
        names = _named_by_the_library(path)
        if names is None:
            continue
        # Of two entries of one name that library takes the last.
        fault = refusal(read_header, path)
        assert fault is None or "is there twice" in fault
        assert fault is not None or read_header(path).keys() == names


def _named_by_the_library(path: Path) -> set[str] | None:
    """The names of the tensors; None for a file that the format's own library refuses, and for
    shapes that no array has, which are refused here alone."""
    try:
        with safe_open(path, "numpy") as file:
            names = set(file.keys())
            shapes = [file.get_slice(name).get_shape() for name in names]
            possible = all(len(s) <= _MOST_AXES and max(s, default=0) < 2**63 for s in shapes)
            return names if possible else None
    except (SafetensorError, OSError):
        return None


WRONG: list[tuple[object, str]] = [
    ({"a": {**SOUND, "data_offsets": [0, 4]}}, r"'a': shape \[2\] of F32 does not fit bytes 0 to"),
    ({"a": {**SOUND, "data_offsets": [8, 0]}}, r"does not fit bytes 8 to 0"),
    ({"a": {**SOUND, "data_offsets": [-8, 0]}}, r"'a' is no entry of a tensor"),
    ({"a": {**SOUND, "data_offsets": [0, 8.0]}}, r"'a' is no entry of a tensor"),
    ({"a": {**SOUND, "data_offsets": [64, 72]}}, r"cut off, \d+ bytes of \d+; fetch it again"),
    ({"a": {**SOUND, "shape": [True, 2]}}, r"'a' is no entry of a tensor"),
    ({"a": {**SOUND, "shape": [2**62, 2**62]}}, r"does not fit"),
    ({"a": {**SOUND, "shape": [1] * 70}}, r"'a' is no entry of a tensor"),
    ({"a": {**SOUND, "dtype": "x" * 21}}, r"'a' is no entry of a tensor"),
    ({"a" * 501: SOUND}, r"the name 'aaa.*\.\.\. is no Unicode text of a name's length"),
    ({"a": {**SOUND, "dtype": 5}}, r"'a' is no entry of a tensor"),
    ({"a": {"dtype": "F32", "shape": [2]}}, r"'a' is no entry of a tensor"),
    ({"a": 5}, r"'a' is no entry of a tensor: 5"),
    ({"a": SOUND, "b": {**SOUND, "data_offsets": [4, 12]}}, r"'a' and 'b' overlap"),
    ({"\ud800": SOUND}, r"the name '\\ud800' is no Unicode text"),
    ('{"a": {}, "a": {}}', r"'a' is there twice"),
    ("[" * 100_000, r"its header is no JSON of that format"),
    ("[1]", r"its header is no JSON object"),
    ('{"a": ' + "9" * 5000 + "}", r"its header is no JSON of that format"),
]


@pytest.mark.parametrize(("header", "message"), WRONG)
def test_a_header_that_lies_is_refused_by_its_fault(
    tmp_path: Path, header: object, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read_header(_written(tmp_path / "a.safetensors", header))


OTHERS: list[tuple[bytes, str]] = [
    (b"", "it is empty; fetch it again"),
    (b"abc", "it begins with no length of a header"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a pointer of Git LFS"),
    (b"PK\x03\x04\x14\x00\x08\x08\x08\x00", "a ZIP archive, as PyTorch's pickles are"),
    (b"\x80\x02}q\x00(X\x05\x00\x00\x00", "one of Python's pickles"),
    (b"GGUF\x03\x00\x00\x00\x01", "a GGUF file"),
    (b"<!DOCTYPE html><html>", "a web page"),
    (b'{"error": "no access"}', "JSON"),
    (struct.pack("<Q", 1000) + b'{"a"', "cut off, or something else"),
    (struct.pack("<Q", 0), "cut off, or something else"),
]


@pytest.mark.parametrize(("content", "message"), OTHERS)
def test_what_is_no_safetensors_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read_header(path)


def test_dtypes_that_are_not_read_are_listed_all_the_same(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}
    header["b"] = {"dtype": "NEW", "shape": [3], "data_offsets": [8, 9]}
    found = read_header(_written(tmp_path / "a.safetensors", header))
    assert {name: tensor.dtype for name, tensor in found.items()} == {"a": "F8_E4M3", "b": "NEW"}


METADATA: list[tuple[Any, dict[str, str]]] = [
    ({"a": "text", "b": 5, "c": ["x"], "d": None, "e": {"f": "g"}}, {"a": "text"}),
    ({"a": "\ud800", "\ud800": "b", "c": "d"}, {"c": "d"}),
    ([1, 2], {}),
    ("text", {}),
    (None, {}),
]


@pytest.mark.parametrize(("written", "read"), METADATA)
def test_metadata_that_is_no_text_is_passed_over(
    tmp_path: Path, written: object, read: dict[str, str]
) -> None:
    path = _written(tmp_path / "a.safetensors", {"a": SOUND, "__metadata__": written})
    assert read_metadata(path) == read
    assert read_header(path).keys() == {"a"}


@pytest.mark.parametrize("shape", [[0], [0, 4], [4, 0, 2]])
def test_empty_tensors_are_tensors(tmp_path: Path, shape: list[int]) -> None:
    empty = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    path = _written(tmp_path / "a.safetensors", {"a": empty}, b"")
    assert read_header(path)["a"].shape == tuple(shape)
    assert map_tensors(path)["a"].fp32().shape == tuple(shape)


@pytest.mark.parametrize(("begin", "end"), [(0, 3), (2, 1)])
@pytest.mark.parametrize("shape", [[], [2]])
def test_rows_that_are_not_there_are_refused(
    tmp_path: Path, begin: int, end: int, shape: list[int]
) -> None:
    size = 8 if shape else 4
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    tensor = read_header(_written(tmp_path / "a.safetensors", {"a": entry}))["a"]
    with pytest.raises(SourceError, match="expected at least"):
        tensor.rows(begin, end)
