"""Real NATS servers, for the tests of the cluster's broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.jobs.jetstream.nats_server import NatsServer, installed


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server with JetStream, for all tests: each takes a stream of its own."""
    if not installed():
        pytest.skip("nats-server is not installed: apt-get install nats-server")
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """The name of a stream that no other test has."""
    return "".join(each if each.isalnum() else "_" for each in request.node.name)[-100:]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The folder that all servers share."""
    return tmp_path / "pictures"
