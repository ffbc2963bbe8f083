"""Calotype as its wheel installs it: complete, and serving in a folder that is no checkout."""

import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from tests.api.live import PATIENCE, Api
from tests.places import ROOT
from tests.wheel import SHIPPED, Installed, build_wheel, copy_source, install, tracked_files

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SOURCES = ("*.cu", "*.cuh", "*.c", "*.h", "onnxruntime/operators/*.ptx")
"""Only compilers read these: the .ptx or .so made of them lies beside them."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a checkout in which people have worked."""
    source = tmp_path_factory.mktemp("source")
    copy_source(source)
    demo = source / "engines" / "demo"
    for foreign in (demo / ".hashes.json", demo / "loras/mine/pack.json", demo / "targets/a/b.json",
                    source / "engines/mine/manifest.json"):  # fmt: skip
        foreign.parent.mkdir(parents=True, exist_ok=True)
        foreign.write_text("{}")
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the wheel."""
    return install(wheel, tmp_path_factory.mktemp("environment") / "venv")


def is_source(name: str) -> bool:
    return any(Path(name).match(pattern) for pattern in SOURCES)


def test_the_wheel_is_every_tracked_file_and_no_other(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {name for name in tracked_files(*SHIPPED) if not is_source(name)}


def test_the_wheel_names_its_version_and_holds_the_licences(wheel: Path) -> None:
    assert wheel.name == f"calotype-{VERSION}-py3-none-any.whl"
    licences = f"calotype-{VERSION}.dist-info/licenses"
    assert {f"{licences}/LICENSE", f"{licences}/examples/demo_model/NOTICE"} <= set(
        ZipFile(wheel).namelist()
    )


def test_every_module_is_the_wheels_own(installed: Installed, tmp_path: Path) -> None:
    code = (
        "import api, runtime, engine_build as b; print(api.__file__, runtime.__file__, b.__file__)"
    )
    files = installed.run("python", "-c", code, cwd=tmp_path).split()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(installed.folder) for file in files)


@contextmanager
def serving(installed: Installed, cwd: Path) -> Iterator["subprocess.Popen[str]"]:
    """A server that was told its port alone."""
    command = [installed.program("calotype"), "serve", "--port", "0"]
    with (
        (cwd.parent / "log").open("w") as log,
        subprocess.Popen(
            command,
            cwd=cwd,
            env=installed.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def test_it_serves_the_demo_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with serving(installed, folder) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert found, (tmp_path / "log").read_text()
        api = Api(found[0])
        api.wait_ready()
        info = api.client.get("/api/info").json()
        assert (info["version"], info["model"]["name"]) == (VERSION, "demo")
        assert [lora["id"] for lora in info["loras"]] == ["monochrome"]
        picture = Image.open(BytesIO(api.draw(width=128, height=128)))
        assert (picture.format, picture.size) == ("PNG", (128, 128))
        assert "swagger-ui" in api.client.get("/docs").text
        api.client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert [path.name for path in folder.iterdir()] == ["data"]


def test_the_commands_work_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    def calotype(*arguments: str) -> str:
        return installed.run("calotype", *arguments, cwd=tmp_path)

    def engine_build(*arguments: str) -> str:
        return installed.run("engine-build", *arguments, cwd=tmp_path)

    assert calotype("--version") == f"calotype {VERSION}\n"
    assert '"name": "demo"' in calotype("info")
    calotype("generate", "a red heart", "-o", "heart.png", "--steps", "2")
    with Image.open(tmp_path / "heart.png") as picture:
        assert picture.size == (128, 128)
    assert engine_build("--version") == f"engine-build {VERSION}\n"
    assert "lora" in engine_build("--help")
    assert f"demo comes with Calotype: {installed.folder}" in engine_build("list")
    assert "digest" in engine_build("inspect", "demo")
    assert "chroma-hd" in engine_build("presets")
    assert engine_build("lora", "list", "--model", "demo").startswith("monochrome")
