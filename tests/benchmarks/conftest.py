from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which benchmarks keep what they make of the demo."""
    return tmp_path_factory.mktemp("benchmarks")
