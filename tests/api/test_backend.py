"""A backend that was asked for and cannot be had ends the command in one line, before any work."""

import shutil
from pathlib import Path

import pytest

from api.cli import main
from runtime.backends.devices import find_devices
from runtime.backends.rows import CPU
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target

pytestmark = pytest.mark.skipif(
    find_devices().first is not None, reason="this machine has a GPU: its targets could be had"
)


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """An engines folder with the committed demo model and a target of TensorRT's."""
    ignored = shutil.ignore_patterns("targets", "loras")
    shutil.copytree(ENGINES / "demo", tmp_path / "engines/demo", ignore=ignored)
    add_target(tmp_path / "engines/demo", Made())
    return tmp_path / "engines"


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda"])
@pytest.mark.parametrize("command", ["serve", "generate"])
def test_it_is_never_replaced_by_another(
    command: str,
    backend: str,
    engines: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = tmp_path / "picture.png"
    own = {
        "serve": ["--port", "0", "--data", str(tmp_path / "data")],
        "generate": ["a red heart", "-o", str(picture)],
    }
    flags = ["--engines", str(engines), "--backend", backend]
    assert main([command, *own[command], *flags]) == 1
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert line.startswith(f"calotype: --backend {backend} cannot be had for demo: ")
    assert line.endswith("draw with --backend onnxruntime-cpu")
    assert printed.out == ""
    assert not picture.exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("wish", ["auto", "onnxruntime-cpu"])
def test_a_picture_says_what_drew_it(
    wish: str,
    engines: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALOTYPE_BACKEND", wish)
    flags = ["--engines", str(engines), "--steps", "1", "--width", "64", "--height", "64"]
    assert main(["generate", "a red heart", "-o", str(tmp_path / "heart.png"), *flags]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("ONNX Runtime on the CPU")
    assert ("as asked for" in first) == (wish != "auto")


def test_a_precision_that_the_backend_lacks_is_refused_with_the_remedy(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--engines", str(engines), "--backend", CPU, "--cpu-precision", "bf16"]
    own = {
        "serve": ["--port", "0", "--data", str(tmp_path / "data")],
        "generate": ["a red heart", "-o", str(tmp_path / "heart.png")],
    }
    for command, arguments in own.items():
        assert main([command, *arguments, *flags]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert "computes in fp32 alone; take --backend openvino-cpu" in line
        assert line.endswith(", or --cpu-precision fp32")


def test_an_unknown_backend_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALOTYPE_BACKEND", "cuda")
    assert main(["serve"]) == 2
    assert "CALOTYPE_BACKEND=cuda: input should be 'auto', 'tensorrt'" in capsys.readouterr().err
