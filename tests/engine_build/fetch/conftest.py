"""A web server for each test."""

from collections.abc import Iterator

import pytest

from tests.engine_build.fetch.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running
