"""The local broker passes the suite of all brokers."""

from functools import partial
from pathlib import Path

import pytest

from runtime.gallery import Gallery
from tests.runtime.jobs.conformance.opener import Opener
from tests.runtime.jobs.conformance.suite import BrokerConformance
from tests.runtime.jobs.support import open_broker


class TestLocalBroker(BrokerConformance):
    """Its data is a folder."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Opener:
        return partial(open_broker, tmp_path)

    @pytest.fixture
    def gallery(self, tmp_path: Path) -> Gallery:
        return Gallery(tmp_path)
