"""The cluster's broker passes the suite of all brokers, on one real server."""

from pathlib import Path

import pytest

from runtime.gallery import Gallery
from runtime.jobs.jetstream.broker import JetStreamBroker
from tests.nats_server import NatsServer
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.conformance.suite import BrokerConformance
from tests.runtime.jobs.support import MODEL


class TestJetStreamBroker(BrokerConformance):
    """Its data is a stream, and a folder of pictures."""

    @pytest.fixture
    def opened(self, nats: NatsServer, stream: str, pictures: Path) -> Opener:
        def open_broker(
            *,
            model: str = MODEL,
            queue_limit: int = 100,
            lease_seconds: float = 30,
            max_attempts: int = 3,
        ) -> JetStreamBroker:
            return JetStreamBroker(
                nats.url,
                pictures,
                model,
                queue_limit=queue_limit,
                lease_seconds=lease_seconds,
                max_attempts=max_attempts,
                name=stream,
            )

        return open_broker

    @pytest.fixture
    def gallery(self, pictures: Path) -> Gallery:
        return Gallery(pictures)
