"""The servers of the tests of routes, each with its jobs in a stream of a cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import LiveServer, Options
from tests.nats_server import NatsServer


@pytest.fixture(scope="session")
def server(
    tiny_package: Path, tmp_path_factory: pytest.TempPathFactory, nats: NatsServer
) -> Iterator[LiveServer]:
    """As the server that most tests share."""
    flags = ("--broker", nats.url, "--broker-stream", "http")
    with LiveServer(Options(tiny_package, tmp_path_factory.mktemp("data"), flags=flags)) as running:
        yield running


@pytest.fixture(scope="session")
def narrow_server(
    tiny_package: Path, tmp_path_factory: pytest.TempPathFactory, nats: NatsServer
) -> Iterator[LiveServer]:
    """As the one that draws one picture at a time and lets three jobs wait."""
    flags = ("--broker", nats.url, "--broker-stream", "narrow", "--max-batch", "1")
    data = tmp_path_factory.mktemp("narrow")
    options = Options(tiny_package, data, flags=(*flags, "--queue-limit", "3"))
    with LiveServer(options) as running:
        yield running
