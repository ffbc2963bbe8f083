"""The stream and the folder that the servers of a test share."""

from pathlib import Path

import pytest


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """The name of a stream that no other test has."""
    return "".join(each if each.isalnum() else "_" for each in request.node.name)[-100:]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The folder that all servers share."""
    return tmp_path / "pictures"
