"""A bundle of this project made, unpacked in an empty folder and run there: no network is asked."""

import json
import os
import select
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.scripts.test_device_code import MACHINE_CODE, container, entry, library
from tests.scripts.wheels import write_wheel
from tests.tiny.packages import DEMO, FAMILIES

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    # Nothing of the checkout is to be found but by the bundle's own script.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def bundle(folder: Path, *flags: str, part_size: str = "2") -> subprocess.CompletedProcess[str]:
    (folder / "constraints.txt").touch()
    command = [sys.executable, "-m", "scripts.offline_bundle", "--no-index", "--project"]
    command += ["--find-links", str(folder), "--constraint", str(folder / "constraints.txt")]
    return run(*command, "--output", str(folder / "bundle"), "--part-size", part_size, *flags)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for sm_90: a stand-in of ONNX Runtime's wheel with device code for two GPUs, a
    wheel with a `.data` folder, and packages."""
    folder = tmp_path_factory.mktemp("bundling")
    code = [entry(MACHINE_CODE, each, f"code for {each}".encode()) for each in (80, 90)]
    provider = library(folder, container(*code)).read_bytes()
    files = {
        "onnxruntime_there/__init__.py": b"",
        "onnxruntime/capi/libonnxruntime_providers_cuda.so": provider,
        "onnxruntime/capi/libonnxruntime_providers_tensorrt.so": b"not needed",
        "onnxruntime/capi/libonnxruntime.so.1.31.1": b"not needed",
    }
    write_wheel(folder, "onnxruntime_gpu", "1.31.1", files, ["easel>=2"])
    data = "painting-1.0.data"
    files = {
        "painting.py": b"VERSION = '1.0'\n",
        f"{data}/purelib/canvas.py": b"",
        f"{data}/scripts/paint": b"#!python\n",
    }
    write_wheel(folder, "painting", "1.0", files)
    for name in (DEMO, *FAMILIES):
        (folder / "packages" / name).mkdir(parents=True)
        (folder / "packages" / name / "manifest.json").write_text("one content")
    (folder / "there.txt").write_text("# what is there\neasel==2.3\n")
    done = bundle(
        folder,
        *("--requirements", "onnxruntime-gpu", "painting", "--there", str(folder / "there.txt")),
        *("--for", "sm_90", "--packages", str(folder / "packages")),
    )
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


def unpacked(
    made: Path, folder: Path, *command: str, seconds: float = 500
) -> subprocess.CompletedProcess[str]:
    flags = ("--seconds", str(seconds))
    return run(sys.executable, str(made / "unpack.py"), *flags, str(folder), *command)


def test_parts_are_small_and_the_manifest_says_what_is_in_them(made: Path) -> None:
    manifest = json.loads((made / "bundle.json").read_text())
    assert (manifest["python"], manifest["gpu"]) == (PYTHON, "sm_90")
    assert [name.partition("-")[0] for name in manifest["wheels"]] == [
        *("onnxruntime_gpu", "painting")
    ]
    assert manifest["bytes"].keys() == {"packages", "project", "site"}
    sizes = [(made / part["name"]).stat().st_size for part in manifest["parts"]]
    assert len(sizes) > 2
    assert max(sizes) <= 2 * 2**20
    assert sizes == [part["size"] for part in manifest["parts"]]


def test_what_was_packed_is_imported_and_nothing_is_installed(made: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, json, painting, canvas, runtime.backends.catalog;"
        "import engine_build.cli, api.cli;"
        "from importlib.metadata import version;"
        "print(json.dumps([painting.__file__, runtime.backends.catalog.__file__, os.getcwd(),"
        "os.environ['GPU_CHECK_PACKAGES'], version('calotype'), version('onnxruntime-gpu')]))"
    )
    done = unpacked(made, tmp_path / "there", "python", "-c", code)
    assert done.returncode == 0, done.stderr
    there = tmp_path / "there"
    assert json.loads(done.stdout) == [
        str(there / "site" / "painting.py"),
        str(there / "project" / "runtime" / "backends" / "catalog.py"),
        str(there / "project"),
        str(there / "packages"),
        version("calotype"),
        "1.31.1",
    ]
    assert list(tmp_path.iterdir()) == [there]
    assert (there / "packages" / "tiny_flux" / "manifest.json").read_text() == "one content"
    assert not (there / "project" / "docs" / "images").exists()
    assert not (there / "site" / "painting-1.0.data").exists()


def test_device_code_of_the_gpu_alone_is_in_it(made: Path, tmp_path: Path) -> None:
    assert unpacked(made, tmp_path / "there").returncode == 0
    capi = tmp_path / "there" / "site" / "onnxruntime" / "capi"
    provider = capi / "libonnxruntime_providers_cuda.so"
    assert list(capi.iterdir()) == [provider]
    assert b"code for 90" in provider.read_bytes()
    assert b"code for 80" not in provider.read_bytes()


def test_the_check_of_a_gpu_runs_to_its_table(made: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    check = ("python", "-m", "scripts.gpu_check", "--seconds", "100", "--write", str(kept))
    done = unpacked(made, tmp_path / "there", *check)
    assert "\nnot there: " in done.stdout, done.stderr
    assert "\nstages:\n" in done.stdout
    found = json.loads(kept.read_text())
    assert found["machine"]["onnxruntime-cuda"] == "1.31.1"
    titles = {each["name"].partition(":")[0] for each in found["tests"]}
    assert titles == {"CUDA", "tensorrt", "tensorrt-rtx", "onnxruntime-cuda"}


def test_a_command_that_never_ends_is_ended_with_what_it_started(
    made: Path, tmp_path: Path
) -> None:
    code = (
        "import subprocess, sys, threading, pathlib;"
        "wait = 'import threading; threading.Event().wait()';"
        "child = subprocess.Popen([sys.executable, '-c', wait]);"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid));"
        "threading.Event().wait()"
    )
    done = unpacked(made, tmp_path / "there", "python", "-c", code, seconds=3)
    assert done.returncode == 124
    assert done.stderr == "offline_unpack: ended after 3 seconds\n"
    assert ends(int((tmp_path / "child").read_text()))


def ends(process: int) -> bool:
    """True for a process that has ended, or ends now."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 60)[0])
    finally:
        os.close(handle)


def test_the_code_of_the_command_is_that_of_the_whole(made: Path, tmp_path: Path) -> None:
    done = unpacked(made, tmp_path / "there", "python", "-c", "import sys; sys.exit(7)")
    assert done.returncode == 7


def test_a_folder_of_this_bundle_is_taken_as_it_is_and_another_one_left_alone(
    made: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    assert unpacked(made, there).returncode == 0
    (there / "site" / "painting.py").write_text("VERSION = 'mine'\n")
    code = "import painting; print(painting.VERSION)"
    assert unpacked(made, there, "python", "-c", code).stdout == "mine\n"
    (tmp_path / "other").mkdir()
    done = unpacked(made, tmp_path / "other")
    assert done.returncode == 1
    assert "is there already, and not from this bundle" in done.stderr
    assert list((tmp_path / "other").iterdir()) == []


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """Hard links to the bundle's files: one may be replaced."""
    (tmp_path / "copied").mkdir()
    for path in made.iterdir():
        (tmp_path / "copied" / path.name).hardlink_to(path)
    return tmp_path / "copied"


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_a_part_that_is_not_whole_is_refused_by_name(copied: Path, tmp_path: Path) -> None:
    part = copied / "part-002"
    whole = part.read_bytes()
    for content, fault in (
        (whole[:-1], "expected"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "damaged"),
    ):
        replace(part, content)
        done = unpacked(copied, tmp_path / "there", "python", "-c", "")
        assert done.returncode == 1
        assert done.stderr.startswith("offline_unpack: part-002: ")
        assert fault in done.stderr
    part.unlink()
    assert "part-002: missing" in unpacked(copied, tmp_path / "there").stderr
    assert not (tmp_path / "there").exists()


def test_a_manifest_that_is_missing_is_named(copied: Path, tmp_path: Path) -> None:
    (copied / "bundle.json").unlink()
    done = unpacked(copied, tmp_path / "there")
    assert (done.returncode, done.stderr) == (
        1,
        "offline_unpack: bundle.json: missing; copy it again\n",
    )


def test_packages_whose_weights_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    write_wheel(tmp_path, "painting", "1.0", {"painting.py": b""})
    manifest = tmp_path / "packages/mine/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"roles": {"denoiser": {"external_folder": "/elsewhere"}}}')
    flags = ["--requirements", "painting", "--packages", str(tmp_path / "packages")]
    done = bundle(tmp_path, *flags)
    assert done.returncode == 1
    assert "the weights of" in done.stderr
    assert "build it without --in-place" in done.stderr


def test_another_python_is_refused(copied: Path, tmp_path: Path) -> None:
    manifest = (copied / "bundle.json").read_bytes()
    replace(copied / "bundle.json", manifest.replace(PYTHON.encode(), b"3.99", 1))
    done = unpacked(copied, tmp_path / "there")
    assert done.stderr == (f"offline_unpack: this is Python {PYTHON}, and the bundle is for 3.99\n")


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--for", "hopper"], "'hopper' is no compute capability such as sm_90"),
        (["--there", "nowhere.txt"], "--there nowhere.txt: No such file"),
        (["--packages", "nowhere"], "--packages nowhere: there is no such folder"),
        (["--for", "sm_90"], "--for sm_90: onnxruntime-gpu is not packed"),
    ],
)
def test_what_cannot_be_had_is_named_and_nothing_is_left(
    flags: list[str], fault: str, tmp_path: Path
) -> None:
    write_wheel(tmp_path, "painting", "1.0", {"painting.py": b""})
    done = bundle(tmp_path, "--requirements", "painting", *flags)
    assert done.returncode == 1
    assert fault in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("constraints.txt", "painting-1.0-py3-none-any.whl")
    ]


def test_packages_and_device_code_go_with_the_project() -> None:
    done = run(sys.executable, "-m", "scripts.offline_bundle", "--for", "sm_90")
    assert done.returncode == 1
    assert "--packages and --for go with --project" in done.stderr
