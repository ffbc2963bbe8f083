"""A build that is killed leaves no package; building again works; damage is named when loaded."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine_build.cli import run
from runtime.errors import PackageError
from runtime.manifest import MANIFEST_NAME, load_package, package_directories

PROGRAM = Path(sys.executable).parent / "engine-build"


def build_until(source: Path, engines: Path, step: str) -> None:
    """Start a build as a process of its own and kill it as soon as it says that `step` begins."""
    command = [PROGRAM, "build", source, "--name", "mine", "--engines", engines]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if step in line:
                process.kill()
                break
        else:
            pytest.fail(f"the build never came to {step!r}")
    assert process.returncode == -9


@pytest.mark.parametrize("step", ["text_encoder: copy weights", "manifest"])
def test_killed_build_leaves_no_package_and_building_again_works(
    tiny_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    build_until(tiny_source, tmp_path, step)
    assert list(package_directories(tmp_path)) == []
    with pytest.raises(PackageError, match="model 'mine' is not in"):
        load_package(tmp_path, "mine")
    assert run(["list", "--engines", str(tmp_path)]) == 0
    assert "no model packages" in capsys.readouterr().out
    if step == "manifest":
        command = ["build", str(tiny_source), "--name", "mine", "--engines", str(tmp_path)]
        assert run([*command, "--quiet"]) == 0
        assert load_package(tmp_path, "mine").manifest.name == "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_existing_package_is_not_overwritten_unasked(
    tiny_source: Path, tiny_package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_package(tiny_package, "tiny").digest
    command = ["build", str(tiny_source), "--name", "tiny", "--engines", str(tiny_package)]
    assert run([*command, "--quiet"]) == 1
    assert "already there; build it anew with --replace" in capsys.readouterr().err
    assert load_package(tiny_package, "tiny").digest == before


def test_flipped_byte_in_any_file_is_named(tiny_package: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_package / "tiny", tmp_path / "tiny")
    names = sorted(path.name for path in (tmp_path / "tiny").iterdir())
    assert {MANIFEST_NAME, "denoiser.onnx", "denoiser.safetensors", "tokenizer.json"} <= set(names)
    for name in names:
        path = tmp_path / "tiny" / name
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(PackageError) as caught:
                load_package(tmp_path, "tiny")
            assert name in str(caught.value)
        path.write_bytes(whole)
    assert load_package(tmp_path, "tiny").manifest.name == "tiny"


def test_missing_and_cut_off_files_are_named(tiny_package: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_package / "tiny", tmp_path / "tiny")
    path = tmp_path / "tiny/vae_decoder.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(PackageError, match=rf"{path.name}: {len(whole) - 1} bytes, expected"):
        load_package(tmp_path, "tiny")
    path.unlink()
    with pytest.raises(PackageError, match=rf"{path.name}: gone"):
        load_package(tmp_path, "tiny")


def test_list_and_inspect_say_what_is_there(
    tiny_package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", "--engines", str(tiny_package)]) == 0
    assert "tiny" in capsys.readouterr().out
    assert run(["inspect", "tiny", "--engines", str(tiny_package)]) == 0
    printed = capsys.readouterr().out
    for role in ("text_encoder", "text_encoder_2", "denoiser", "vae_decoder", "preview_decoder"):
        assert role in printed
