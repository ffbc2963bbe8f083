"""OpenVINO for the tests that run it."""

import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.places import OPENVINO


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO can be imported, and is found as installed."""
    with suppress(PackageNotFoundError):
        version("openvino")
        return
    if not OPENVINO.is_dir():
        pytest.skip("OpenVINO is not installed; `make unit` installs it into .venv/openvino")
    monkeypatch.setattr(sys, "path", [*sys.path, str(OPENVINO)])
