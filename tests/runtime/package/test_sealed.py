"""Sealed files: whatever is damaged in one is said with its remedy."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from runtime.errors import PackageError
from runtime.package.sealed import read_sealed, seal

ADAPTER = TypeAdapter(dict[str, object])


def test_a_sealed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(seal(ADAPTER, {"format": 1, "size": 2.5, "name": "é"}))
    content, digest = read_sealed(path, ADAPTER, 1, "build it again")
    assert content == {"format": 1, "size": 2.5, "name": "é"}
    assert len(digest) == 64


@pytest.mark.parametrize("damage", [b"NaN", b"-Infinity", b'"\\ud800"', b"2.6", b"2.50"])
def test_a_damaged_value_is_a_damaged_file(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(seal(ADAPTER, {"format": 1, "size": 2.5}).replace(b"2.5", damage))
    with pytest.raises(PackageError, match=r"record.json: damaged.*build it again"):
        read_sealed(path, ADAPTER, 1, "build it again")
