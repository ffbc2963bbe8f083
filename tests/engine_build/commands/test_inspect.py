"""`engine-build inspect` reads a file whose hash is known only where that is asked for."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from engine_build.cli import run
from runtime.package import hashes
from runtime.package.hashes import HASHES_NAME, KnownHashes
from runtime.package.manifest import read_manifest
from tests.places import ENGINES


def test_files_are_read_once_and_again_with_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = shutil.ignore_patterns("targets", HASHES_NAME)
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    read, hashed = KnownHashes.read, Counter[str]()

    def counted(known: KnownHashes, path: Path, *rest: str) -> str:
        hashed[path.name] += 1
        return read(known, path, *rest)

    monkeypatch.setattr(KnownHashes, "read", counted)
    monkeypatch.setattr(hashes, "SETTLED_NS", 0)
    files = set(read_manifest(tmp_path / "demo")[0].files)
    for flags, expected in (([], files), ([], set[str]()), (["--verify-files"], files)):
        hashed.clear()
        assert run(["inspect", "demo", "--engines", str(tmp_path), *flags]) == 0
        assert hashed == Counter(expected)
