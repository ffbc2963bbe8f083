"""The command: its exit codes, and that an error is one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from diffusers import StableDiffusionXLPipeline

from engine_build.cli import COMMANDS, install_line, run
from runtime.package.manifest import load_package
from tests.engine_build.checkpoint.single_file import sgm
from tests.places import ROOT

COMMAND = Path(sys.executable).parent / "engine-build"


def execute(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"]])
def test_help_shows_a_newcomer_an_example(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "engine-build build ./stable-diffusion-xl-base-1.0 --name sdxl" in shown
    assert "model_index.json" in shown


@pytest.mark.parametrize("command", [*COMMANDS, "lora add", "lora list", "lora remove"])
def test_the_help_of_a_command_has_an_example_of_it_and_fits_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    _, _, examples = shown.partition("\nexample:\n")
    assert examples.startswith(f"  engine-build {command}")
    assert max(len(line) for line in shown.splitlines()) <= 100


WRONG_COMMAND_LINES = {
    "no command": ([], "COMMAND"),
    "unknown command": (["make"], "make"),
    "no name": (["build", "source"], "--name"),
    "name with a slash": (["build", "source", "--name", "a/b"], "is no name for a package"),
    "hidden name": (["build", "source", "--name", ".a"], "is no name for a package"),
    "no size": (["build", "s", "--name", "a", "--default-size", "1024"], "such as 1024x1024"),
    "no steps": (["build", "s", "--name", "a", "--default-steps", "0"], "positive whole number"),
    "many steps": (["build", "s", "--name", "a", "--default-steps", "101"], "expected 1 to 100"),
    "nan": (["build", "s", "--name", "a", "--default-cfg-scale", "nan"], "number from 1 to 30"),
    "sampler": (["build", "s", "--name", "a", "--default-sampler", "magic"], "'euler_a'"),
}


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG_COMMAND_LINES.values(), ids=WRONG_COMMAND_LINES
)
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_wrong_source_ends_with_1_and_one_line(tmp_path: Path) -> None:
    done = execute("build", tmp_path / "nowhere", "--name", "model", "--engines", tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"engine-build: {tmp_path}/nowhere: there is no such folder; expected a diffusers folder "
        "(with a model_index.json) or a .safetensors file\n"
    )


def test_a_single_file_is_built_with_its_base(
    rounded_pipeline: StableDiffusionXLPipeline,
    rounded_source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = sgm.write(rounded_pipeline, tmp_path / "model.safetensors")
    build = ["build", str(file), "--name", "single", "--engines", str(tmp_path / "engines")]
    assert run([*build, "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "a single-file checkpoint of SDXL without configurations" in told
    assert told.count("\n") == 1
    assert run([*build, "--base", str(rounded_source), "--in-place", "--quiet"]) == 0
    manifest = load_package(tmp_path / "engines", "single").manifest
    assert list(manifest.external_files) == [str(file)]


def test_a_name_that_is_taken_ends_with_1(
    tiny_source: Path, tiny_package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["build", str(tiny_source), "--name", "tiny", "--engines", str(tiny_package)])
    assert code == 1
    assert "already there; build it anew with --replace" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_ends_with_1(
    tiny_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    engines = tmp_path / "file" / "engines"
    code = run(["build", str(tiny_source), "--name", "tiny", "--engines", str(engines)])
    captured = capsys.readouterr().err
    assert code == 1
    assert captured.startswith(f"engine-build: {engines}: ")
    assert captured.count("\n") == 1


@pytest.fixture
def engines(tiny_package: Path, tmp_path: Path) -> Path:
    """A copy of an engines folder, to spoil."""
    shutil.copytree(tiny_package / "tiny", tmp_path / "engines" / "tiny")
    return tmp_path / "engines"


def test_list_names_packages_and_damage(engines: Path) -> None:
    shutil.copytree(engines / "tiny", engines / "torn")
    (engines / "torn" / "denoiser.safetensors").write_bytes(b"")
    shutil.copytree(engines / "tiny", engines / "edited")
    manifest = engines / "edited" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"steps": 20', b'"steps": 30'))
    (engines / ".other.building").mkdir()
    done = execute("list", "--engines", engines)
    heading, tiny, *faults = done.stdout.splitlines()
    assert done.returncode == 0
    assert heading.split()[:3] == ["NAME", "FAMILY", "SIZE"]
    assert tiny.split()[:6] == ["tiny", "sdxl", "128x128", "20", "7", "euler_a"]
    assert [fault.split()[:2] for fault in faults] == [["edited", "DAMAGED"], ["torn", "DAMAGED"]]
    assert "manifest.json" in faults[0]
    assert "denoiser.safetensors" in faults[1]


def test_list_of_an_empty_folder_says_how_to_fill_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", "--engines", str(tmp_path)]) == 0
    assert "engine-build build SOURCE --name NAME" in capsys.readouterr().out


def test_inspect_says_what_is_inside(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "tiny", "--engines", str(engines)]) == 0
    shown = capsys.readouterr().out
    digest = json.loads((engines / "tiny" / "manifest.json").read_bytes())["digest"]
    for words in (
        "64 to 1024, multiples of 32",
        "128x128, 20 steps, euler_a, default, cfg 7",
        "by a small decoder",
        "EulerDiscreteScheduler",
        "torch 2.13.0",
        digest,
    ):
        assert words in shown
    roles = {line.split()[0]: line.split() for line in shown.splitlines() if " F32 " in line}
    assert roles.keys() == {
        "text_encoder",
        "text_encoder_2",
        "denoiser",
        "vae_decoder",
        "preview_decoder",
    }


def test_inspect_names_a_damaged_file(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = engines / "tiny" / "text_encoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert run(["inspect", "tiny", "--engines", str(engines)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{weights}: changed" in captured.err
    assert captured.err.count("\n") == 1


def test_inspect_of_an_unknown_package_says_what_there_is(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "huge", "--engines", str(engines)]) == 1
    assert "(found: tiny)" in capsys.readouterr().err


def test_listing_does_not_load_pytorch() -> None:
    code = (
        "import sys; from engine_build.cli import run; run(['list', '--engines', '/nowhere']); "
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_line_that_installs_the_build_stage_works_where_the_code_is(tmp_path: Path) -> None:
    assert install_line(ROOT) == 'pip install -c constraints.txt -e ".[build]"'
    assert install_line(tmp_path).startswith('pip install "WHEEL[build]", where WHEEL is')
