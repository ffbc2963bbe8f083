"""`--verify-files` reads every file of the package anew, in the command that was given the flag."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from api import serving
from api.cli import main
from runtime.package import hashes
from runtime.package.hashes import HASHES_NAME, KnownHashes
from runtime.package.manifest import read_manifest
from tests.places import ENGINES


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("targets", HASHES_NAME)
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    return tmp_path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was read for its hash."""
    read, found = KnownHashes.read, Counter[str]()

    def counted(known: KnownHashes, path: Path, *rest: str) -> str:
        found[path.name] += 1
        return read(known, path, *rest)

    monkeypatch.setattr(KnownHashes, "read", counted)
    monkeypatch.setattr(hashes, "SETTLED_NS", 0)
    return found


COMMANDS = {
    "serve": (["serve"], 0),
    # Refused for its steps, once the package is open.
    "generate": (["generate", "a cat", "-o", "cat.png", "--steps", "0"], 2),
}


@pytest.mark.parametrize(("command", "code"), COMMANDS.values(), ids=COMMANDS)
def test_files_are_read_once_and_again_with_the_flag_or_the_variable(
    command: list[str],
    code: int,
    engines: Path,
    hashed: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "serve", lambda *_, **__: None)
    files = Counter(read_manifest(engines / "demo")[0].files.keys())
    asked = [*command, "--engines", str(engines)]
    for flags, expected in (([], files), ([], Counter[str]()), (["--verify-files"], files)):
        hashed.clear()
        assert main([*asked, *flags]) == code
        assert hashed == expected
    monkeypatch.setenv("CALOTYPE_VERIFY_FILES", "true")
    hashed.clear()
    assert main(asked) == code
    assert hashed == files
