"""A file is read for its hash once, and again after whatever may have changed it."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import PackageError
from runtime.package import hashes, manifest
from runtime.package.hashes import HASHES_NAME, KnownHashes, forget_hashes
from runtime.package.manifest import (
    ModelPackage,
    check_files,
    load_package,
    read_manifest,
    write_manifest,
)
from tests.places import ENGINES, ROOT

WEIGHTS = "vae_decoder.safetensors"


class Package:
    """A copy of the demo's package, on which the files that are read for their hash are counted."""

    def __init__(self, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ignored = shutil.ignore_patterns("targets", "loras", HASHES_NAME)
        self.path = Path(shutil.copytree(ENGINES / "demo", engines / "demo", ignore=ignored))
        self._read: Counter[str] = Counter()
        read = KnownHashes.read

        def counted(known: KnownHashes, path: Path, *rest: str) -> str:
            self._read[path.name] += 1
            return read(known, path, *rest)

        monkeypatch.setattr(KnownHashes, "read", counted)
        # A copy is new, and hashes of new files are not kept.
        monkeypatch.setattr(hashes, "SETTLED_NS", 0)

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS

    @property
    def record(self) -> Path:
        return self.path / HASHES_NAME

    @property
    def files(self) -> set[str]:
        return set(read_manifest(self.path)[0].files)

    def opened(self, *, anew: bool = False) -> Counter[str]:
        """Open the package; the number of times that each file was read."""
        self._read.clear()
        load_package(self.path.parent, "demo", anew=anew)
        return Counter(self._read)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    return Package(tmp_path, monkeypatch)


def test_every_file_is_read_once_and_never_again(package: Package) -> None:
    assert package.opened() == Counter(package.files)
    written = package.record.stat()
    assert package.opened() == Counter()
    assert package.record.stat() == written


def test_files_are_read_again_where_that_is_asked_for(package: Package) -> None:
    package.opened()
    assert package.opened(anew=True) == Counter(package.files)
    assert package.opened() == Counter()


def spoil_in_place(path: Path) -> None:
    """Change a byte, and set the time of modification back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_size == before.st_size


def put_another_in_place(path: Path) -> None:
    """Rename a file of the same size and time of modification over it."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    spoil_in_place(other)
    other.replace(path)


def link_elsewhere(path: Path) -> None:
    """Put a link to another file of the same size in its place."""
    other = path.parents[1] / "elsewhere"
    shutil.copy2(path, other)
    spoil_in_place(other)
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [spoil_in_place, put_another_in_place, link_elsewhere])
def test_a_changed_file_is_read_and_named(package: Package, change: Callable[[Path], None]) -> None:
    package.opened()
    change(package.weights)
    for _ in range(2):
        with pytest.raises(PackageError, match=rf"{WEIGHTS}: changed, sha256 .*build the package"):
            package.opened()


def test_a_file_that_is_back_is_read_once_more(package: Package, tmp_path: Path) -> None:
    package.opened()
    kept = shutil.copy2(package.weights, tmp_path / "kept")
    spoil_in_place(package.weights)
    with pytest.raises(PackageError, match="changed"):
        package.opened()
    shutil.copy2(kept, package.weights)
    assert package.opened() == Counter([WEIGHTS])
    assert package.opened() == Counter()


def test_files_of_a_copied_package_are_read_though_its_record_came_along(
    package: Package, tmp_path: Path
) -> None:
    package.opened()
    package.path.rename(tmp_path / "original")
    shutil.copytree(tmp_path / "original", package.path)
    assert package.record.is_file()
    assert package.opened() == Counter(package.files)


def test_files_of_a_renamed_package_are_not_read_again(package: Package, tmp_path: Path) -> None:
    package.opened()
    (tmp_path / "moved").mkdir()
    package.path = package.path.rename(tmp_path / "moved" / "demo")
    assert package.opened() == Counter()


def test_a_file_of_another_hash_than_the_manifest_now_has_is_read_and_named(
    package: Package,
) -> None:
    package.opened()
    content, _ = read_manifest(package.path)
    record = content.files[WEIGHTS]
    files = {**content.files, WEIGHTS: replace(record, sha256="0" * 64)}
    write_manifest(package.path, replace(content, files=files))
    with pytest.raises(PackageError, match=rf"{WEIGHTS}: changed, .* expected 000000000000"):
        package.opened()


def test_weights_that_lie_elsewhere_are_known_too(package: Package, tmp_path: Path) -> None:
    outside = tmp_path / "checkpoint.safetensors"
    package.weights.rename(outside)
    content, _ = read_manifest(package.path)
    files = dict(content.files)
    external = {str(outside): files.pop(WEIGHTS)}
    write_manifest(package.path, replace(content, files=files, external_files=external))
    assert package.opened()[outside.name] == 1
    assert package.opened() == Counter()
    spoil_in_place(outside)
    with pytest.raises(PackageError, match=f"{outside.name}: changed"):
        package.opened()


def test_a_file_that_changed_just_before_is_read_again(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change once more within one step of the file system's clock."""
    monkeypatch.setattr(hashes, "SETTLED_NS", 10**18)
    assert package.opened() == package.opened() == Counter(package.files)
    assert not package.record.exists()


def test_a_file_that_changes_while_it_is_read_is_read_again(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownHashes(package.path)
    expected = read_manifest(package.path)[0].files[WEIGHTS].sha256
    found = known.read(package.weights, expected, lambda _: os.utime(package.weights))
    assert found == expected
    with known:
        pass
    assert not KnownHashes(package.path).knows(package.weights, expected)


def test_a_read_only_folder_is_opened_all_the_same_and_said_once(
    package: Package, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(path: Path, _: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(hashes, "write_whole", refused)
    assert package.opened() == package.opened() == Counter(package.files)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(f"{package.path}: hashes cannot be kept there (Permission denied), so")


def test_a_record_that_cannot_be_removed_is_named(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, *, missing_ok: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PackageError, match=rf"{HASHES_NAME}: cannot be removed \(Permission den"):
        forget_hashes(package.path)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 1, "files": {}}'])
def test_a_damaged_record_is_said_and_written_anew(
    package: Package, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    package.record.write_bytes(content)
    assert package.opened() == Counter(package.files)
    assert f"{HASHES_NAME}: " in caplog.text
    assert "files are hashed anew" in caplog.text
    assert package.opened() == Counter()


def test_a_record_altered_by_hand_is_not_believed(package: Package) -> None:
    """As that of a package whose files were changed together with it."""
    package.opened()
    spoil_in_place(package.weights)
    content = json.loads(package.record.read_bytes())
    content["files"][WEIGHTS]["stamp"]["ctime_ns"] = package.weights.stat().st_ctime_ns
    package.record.write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    with pytest.raises(PackageError, match="changed"):
        package.opened()


def test_files_that_are_gone_are_forgotten_with_the_next_that_is_found(package: Package) -> None:
    beside = package.path / "beside"
    beside.write_bytes(b"content")
    for _ in range(2):
        with KnownHashes(package.path) as known:
            known.read(beside)
        package.opened()
        names = set(json.loads(package.record.read_bytes())["files"])
        assert names == package.files | {"beside"}
    beside.unlink()
    (package.path / "other").write_bytes(b"content")
    with KnownHashes(package.path) as known:
        known.read(package.path / "other")
    assert set(json.loads(package.record.read_bytes())["files"]) == package.files | {"other"}


def test_threads_that_find_hashes_at_once_lose_none(package: Package) -> None:
    names = sorted(package.files)
    together = threading.Barrier(len(names))

    def find(name: str) -> None:
        with KnownHashes(package.path) as known:
            known.read(package.path / name)
            together.wait()

    threads = [threading.Thread(target=find, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert package.opened() == Counter()


TWO = """
import sys
from pathlib import Path
from runtime.package import hashes, manifest
from runtime.package.hashes import KnownHashes

hashes.SETTLED_NS = 0
with KnownHashes(Path(sys.argv[1])) as known:
    known.read(Path(sys.argv[1], sys.argv[2]))
    print("read", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_at_once_lose_no_hash(package: Package) -> None:
    names = ["denoiser.safetensors", WEIGHTS]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(package.path), name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "read\n"
    for process in processes:
        process.communicate("go on\n")
        assert process.returncode == 0
    assert package.opened() == Counter(package.files - set(names))


def test_gone_and_short_files_are_named_before_any_is_read(package: Package) -> None:
    package.weights.write_bytes(b"short")
    content, digest = read_manifest(package.path)
    with pytest.raises(PackageError, match=f"{WEIGHTS}: 5 bytes, expected"):
        check_files(ModelPackage(package.path, content, digest))
    package.weights.unlink()
    with pytest.raises(PackageError, match=f"{WEIGHTS}: gone"):
        check_files(ModelPackage(package.path, content, digest))
    assert not package.record.exists()


def test_a_long_read_is_said_when_it_begins(
    package: Package, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manifest, "_LONG_BYTES", 10**6)
    caplog.set_level("INFO")
    package.opened()
    size = sum(record.size_bytes for record in read_manifest(package.path)[0].files.values())
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == f"demo: {size / 1e9:.1f} GB are read and hashed, this once"
    package.opened()
    assert len(caplog.records) == 1
