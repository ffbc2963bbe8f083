"""OpenVINO for the tests that run it."""

import sys
from importlib.util import find_spec

import pytest

from tests.places import OPENVINO


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO can be imported, and is found as installed."""
    if find_spec("openvino") is not None:
        return
    if not OPENVINO.is_dir():
        pytest.skip("OpenVINO is not installed; `make unit` installs it into .venv/openvino")
    monkeypatch.setattr(sys, "path", [*sys.path, str(OPENVINO)])
