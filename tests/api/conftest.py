"""Servers for the tests: one for all that can share it, others for those that cannot."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.live import Api, LiveServer, Options

Starter = Callable[[Options], LiveServer]


@pytest.fixture(scope="session")
def server(tiny_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The server that most tests share, over the package `tiny`."""
    data = tmp_path_factory.mktemp("data")
    with LiveServer(Options(tiny_package, data)) as running:
        yield running


@pytest.fixture
def api(server: LiveServer) -> Api:
    """A client of the shared server."""
    return server.api


@pytest.fixture(scope="session")
def narrow_server(
    tiny_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server that draws one picture at a time and lets three jobs wait."""
    flags = ("--max-batch", "1", "--queue-limit", "3")
    data = tmp_path_factory.mktemp("narrow")
    with LiveServer(Options(tiny_package, data, flags=flags)) as running:
        yield running


@pytest.fixture
def narrow(narrow_server: LiveServer) -> Iterator[Api]:
    """A client of the narrow server, whose queue is empty before and after."""
    yield narrow_server.api
    narrow_server.api.cancel_all()


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts servers that this test has for itself; they are stopped after it."""
    with ExitStack() as stack:

        def enter(options: Options) -> LiveServer:
            return stack.enter_context(LiveServer(options))

        yield enter
