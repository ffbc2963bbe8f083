"""Libraries that ONNX Runtime does not find by itself."""

import ctypes
import sys
from types import SimpleNamespace

import onnxruntime
import pytest

from runtime.backends.onnxruntime.libraries import load_cuda_libraries
from runtime.errors import BackendError


def build(
    monkeypatch: pytest.MonkeyPatch, *said: str, cuda: str = "13.0", cudnn: bool = True
) -> None:
    """An ONNX Runtime for CUDA, and what loading its libraries makes it say."""

    def preload_dlls() -> None:
        for line in said:
            print(line)

    def loaded(name: str) -> None:
        if not cudnn:
            raise OSError(f"{name}: cannot open shared object file")

    module = SimpleNamespace(cuda_version=cuda, preload_dlls=preload_dlls)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.setattr(ctypes, "CDLL", loaded)


def test_what_is_there_is_loaded_and_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(monkeypatch, "Failed to load /site/nvidia/libcufft.so.12: it is optional")
    load_cuda_libraries()
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "cudnn", "named"),
    [
        (("Failed to load libcublas.so.13: no such file",), True, "libcublas.so.13: no such file"),
        ((), False, "libcudnn.so.9: cannot open"),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(
    said: tuple[str, ...], cudnn: bool, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(monkeypatch, *said, cudnn=cudnn)
    with pytest.raises(BackendError, match=rf"{named}.*onnxruntime-gpu\[cuda,cudnn\]"):
        load_cuda_libraries()


def test_a_build_without_cuda_has_none() -> None:
    """The one that is installed here, whose own words are what a fake's are made of."""
    assert hasattr(onnxruntime, "preload_dlls")
    load_cuda_libraries()
