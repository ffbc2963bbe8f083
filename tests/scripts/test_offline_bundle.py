"""A bundle made and installed for real, from wheels made here: no network is asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.scripts.wheels import write_wheel

# `painting` needs `canvas` and `easel`; nothing but `easel` needs `timber`.
NEEDS = {"painting": ["canvas", "easel>=2"], "canvas": [], "easel": ["timber"], "timber": []}
VERSIONS = {"painting": "1.0", "canvas": "1.5", "easel": "2.3", "timber": "4.0"}


def make_wheel(folder: Path, name: str, *, size: int = 3000) -> Path:
    """A wheel of one module, of some bytes that do not compress."""
    noise = f"VERSION = {VERSIONS[name]!r}\nNOISE = {os.urandom(size).hex()!r}\n"
    return write_wheel(folder, name, VERSIONS[name], {f"{name}.py": noise.encode()}, NEEDS[name])


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for name in NEEDS:
        make_wheel(folder, name)
    (folder / "constraints.txt").write_text("canvas==1.5\neasel==2.3\n")
    return folder


def bundle(wheels: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "scripts.offline_bundle",
        "--no-index",
        "--find-links",
        str(wheels),
    ]
    command += ["--constraint", str(wheels / "constraints.txt"), "--output", str(output)]
    return run(*command, "--part-size", "0.002", *flags)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def made(wheels: Path, tmp_path: Path) -> Path:
    done = bundle(wheels, tmp_path / "bundle", "--requirements", "painting", "--without", "easel")
    assert done.returncode == 0, done.stderr
    return tmp_path / "bundle"


def test_the_bundle_alone_installs_what_the_other_machine_lacks(
    made: Path, wheels: Path, tmp_path: Path
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    there = [str(wheels / f"{each}-py3-none-any.whl") for each in ("easel-2.3", "timber-4.0")]
    run(str(python), "-m", "pip", "install", "--no-index", "--no-deps", *there)
    done = run(str(python), str(made / "install.py"))
    assert done.returncode == 0, done.stderr
    found = run(str(python), "-c", "import painting, canvas; print(painting.VERSION)")
    assert found.stdout == "1.0\n"


def test_parts_are_small_and_hold_what_is_needed_only(made: Path) -> None:
    manifest = json.loads((made / "bundle.json").read_text())
    names = [file["name"].partition("-")[0] for file in manifest["files"]]
    assert names == ["canvas", "painting"]
    sizes = [(made / part["name"]).stat().st_size for part in manifest["parts"]]
    assert len(sizes) > 4
    assert max(sizes) <= 0.002 * 1024 * 1024
    assert sum(sizes) == sum(file["size"] for file in manifest["files"])


def test_joined_wheels_are_what_was_packed(made: Path, wheels: Path, tmp_path: Path) -> None:
    # pip refuses, since easel is not here; the wheels were joined before.
    run(sys.executable, str(made / "install.py"), "--wheels", str(tmp_path / "w"), "--dry-run")
    for name in ("canvas", "painting"):
        (path,) = (tmp_path / "w").glob(f"{name}-*")
        assert path.read_bytes() == (wheels / path.name).read_bytes()


def damage(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[7] ^= 1
    part.write_bytes(content)


def shorten(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [(damage, "damaged"), (shorten, "bytes, expected"), (Path.unlink, "missing")],
)
def test_a_part_that_is_not_whole_is_refused_by_name(
    made: Path, spoil, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    whole = run(sys.executable, str(made / "install.py"), "--check")
    assert (whole.returncode, whole.stderr) == (0, "every part is whole\n")
    spoil(made / "part-003")
    done = run(sys.executable, str(made / "install.py"), "--dry-run")
    assert done.returncode == 1
    assert done.stderr.startswith("offline_install: part-003: ")
    assert not (made / "__pycache__").exists()
    assert fault in done.stderr


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--requirements", "varnish"], "varnish"),
        (["--requirements", "painting==9"], "painting==9"),
        (["--requirements", "painting", "--without", "timber"], "--without timber: "),
        (["--extras", "cuda,paint"], "--extras paint: unknown; Calotype has build, "),
        (["--requirements", "painting", "--part-size", "0"], "--part-size 0: expected more than 0"),
    ],
)
def test_what_cannot_be_had_is_named_and_nothing_is_left(
    wheels: Path, tmp_path: Path, flags: list[str], fault: str
) -> None:
    done = bundle(wheels, tmp_path / "bundle", *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("offline_bundle: ")
    assert fault in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_there_is_left_alone(made: Path, wheels: Path) -> None:
    done = bundle(wheels, made, "--requirements", "canvas")
    assert done.returncode == 1
    assert "is there already" in done.stderr


def test_what_the_other_machine_has_must_do(wheels: Path, tmp_path: Path) -> None:
    flags = ["--requirements", "painting", "--without", "easel==1.9,timber"]
    refused = bundle(wheels, tmp_path / "bundle", *flags)
    assert "--without timber: " in refused.stderr
    refused = bundle(wheels, tmp_path / "bundle", *flags[:-1], "easel==1.9")
    assert refused.returncode == 1
    assert "Cannot install painting" in refused.stderr.splitlines()[-1]
    taken = bundle(wheels, tmp_path / "bundle", *flags[:-1], "easel==2.1")
    assert taken.returncode == 0, taken.stderr
