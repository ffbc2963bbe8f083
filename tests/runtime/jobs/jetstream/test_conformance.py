"""The cluster's broker passes the suite of all brokers, on one real server and on three."""

from pathlib import Path

import pytest

from runtime.gallery import Gallery
from runtime.jobs.jetstream.broker import JetStreamBroker
from tests.nats_server import NatsCluster, NatsServer
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.conformance.suite import BrokerConformance
from tests.runtime.jobs.support import MODEL


class _OverNats(BrokerConformance):
    """Its data is a stream, and a folder of pictures."""

    @pytest.fixture
    def gallery(self, pictures: Path) -> Gallery:
        return Gallery(pictures)


class TestOneServer(_OverNats):
    """The stream is on one server."""

    @pytest.fixture
    def opened(self, nats: NatsServer, stream: str, pictures: Path) -> Opener:
        return opener(nats.url, stream, pictures, replicas=1)


class TestThreeServers(_OverNats):
    """The stream is on three."""

    @pytest.fixture
    def opened(self, nats_cluster: NatsCluster, stream: str, pictures: Path) -> Opener:
        return opener(nats_cluster.url, stream, pictures, replicas=3)


def opener(url: str, stream: str, pictures: Path, replicas: int) -> Opener:
    """Opens a broker on this stream."""

    def open_broker(
        *,
        model: str = MODEL,
        queue_limit: int = 100,
        lease_seconds: float = 30,
        max_attempts: int = 3,
    ) -> JetStreamBroker:
        return JetStreamBroker(
            url,
            pictures,
            model,
            queue_limit=queue_limit,
            lease_seconds=lease_seconds,
            max_attempts=max_attempts,
            name=stream,
            replicas=replicas,
        )

    return open_broker
