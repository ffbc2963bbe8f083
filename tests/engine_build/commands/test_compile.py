"""Defaults of `engine-build compile`."""

from importlib.metadata import PackageNotFoundError

import pytest

from engine_build.commands.compile import default_backend
from runtime.backends import rows
from runtime.errors import BackendError


@pytest.mark.parametrize(
    ("installed", "taken"),
    [
        (["tensorrt", "tensorrt-rtx", "onnxruntime-cuda"], "tensorrt"),
        (["tensorrt-rtx", "onnxruntime-cuda"], "tensorrt-rtx"),
        (["onnxruntime-cuda"], "onnxruntime-cuda"),
    ],
)
def test_the_best_backend_that_is_installed_is_taken(
    installed: list[str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(installed, monkeypatch)
    assert default_backend() == taken


def test_one_that_does_not_run_on_the_gpu_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    only(["tensorrt-rtx", "onnxruntime-cuda"], monkeypatch)
    assert default_backend("sm_89") == "tensorrt-rtx"
    assert default_backend("sm_90") == default_backend("sm_89", "sm_90") == "onnxruntime-cuda"


def test_where_none_is_installed_each_is_named_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only([], monkeypatch)
    with pytest.raises(BackendError) as refusal:
        default_backend()
    for words in ("TensorRT nor TensorRT for RTX nor onnxruntime-gpu", "[tensorrt]", "[cuda]"):
        assert words in str(refusal.value)


def only(installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which these are installed."""

    brought = {each for name in installed for each in rows.row_of(name).distributions}

    def version(distribution: str) -> str:
        if distribution in brought:
            return "11.4.0"
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(rows, "version", version)
